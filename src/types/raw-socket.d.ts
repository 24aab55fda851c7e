/** The part of npm `raw-socket` 1.8 that weir uses; the package has no types of its own. */
declare module 'raw-socket' {
  export interface Socket {
    setOption(level: number, option: number, value: number): void;
    send(buffer: Buffer, offset: number, length: number, address: string, callback: (error: Error | null, bytes: number) => void): void;
    on(event: 'error', listener: (error: Error) => void): this;
    close(): void;
  }
  const raw: {
    createSocket(options: { addressFamily: number; protocol: number }): Socket;
    readonly AddressFamily: { readonly IPv4: number; readonly IPv6: number };
    readonly Protocol: { readonly UDP: number };
    readonly SocketLevel: { readonly IPPROTO_IP: number };
    readonly SocketOption: { readonly IP_HDRINCL: number };
  };
  export default raw;
}
