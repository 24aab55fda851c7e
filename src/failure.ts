/** An error for people: one sentence on what is wrong and one on what to do; commands print it without a stack. */
export class Failure extends Error {
  constructor(
    message: string,
    /** Exit code of a command that ends with it: 1, or 2 for configuration and usage. */
    readonly exitCode: 1 | 2 = 1,
  ) {
    super(message);
  }
}
