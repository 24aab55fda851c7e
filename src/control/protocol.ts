/** JSON-RPC 2.0 (jsonrpc.org/specification), one JSON value a line. */

export const PARSE_ERROR = -32700;
export const INVALID_REQUEST = -32600;
export const METHOD_NOT_FOUND = -32601;
export const INVALID_PARAMS = -32602;
export const INTERNAL_ERROR = -32603;
/** The state in force does not allow it; `data.path` says what of the request. */
export const REFUSED = -32000;
export const LINE_TOO_LONG = -32001;
/** `if_generation` is not the one in force, which `data.generation` says. */
export const OTHER_GENERATION = -32002;
/** Who asks may not do this. */
export const NOT_ALLOWED = -32003;

export type Id = string | number | null;

export interface RpcErrorObject {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
}

export class RpcError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly data?: unknown,
  ) {
    super(message);
  }
}

export type Response = { readonly jsonrpc: '2.0'; readonly id: Id; readonly result: unknown } | { readonly jsonrpc: '2.0'; readonly id: Id; readonly error: RpcErrorObject };

export function failure(id: Id, error: RpcError): Response {
  return { jsonrpc: '2.0', id, error: { code: error.code, message: error.message, ...(error.data === undefined ? {} : { data: error.data }) } };
}
