/** The part of npm `cap` 0.2 that weir uses; the package has no types of its own. */
declare module 'cap' {
  class Cap {
    /** Returns the link type's name. Every packet overwrites `buffer`. */
    open(device: string, filter: string, bufferSize: number, buffer: Buffer): string;
    on(event: 'packet', listener: (bytes: number, truncated: boolean) => void): this;
    on(event: 'error', listener: (error: Error) => void): this;
    send(buffer: Buffer, length?: number): void;
    setMinBytes?(bytes: number): void;
    close(): void;
  }
  const cap: { readonly Cap: typeof Cap };
  export type CapHandle = InstanceType<typeof Cap>;
  export default cap;
}
