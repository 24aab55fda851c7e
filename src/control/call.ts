/** One request: its method is found, its parameters are held against their schema, what it throws becomes an answer. */
import type { Options, ValidateFunction } from 'ajv';
import { PathsOnly } from '../config/document.js';
import { ALL_ERRORS } from '../config/own-schema.js';
import { shapeErrors } from '../config/shape.js';
import { validatorOf } from '../validator.js';
import { asRpcError } from './change-methods.js';
import type { AnyMethod } from './method.js';
import { INVALID_PARAMS, METHOD_NOT_FOUND, RpcError } from './protocol.js';

export const PARAMS: Options = { ...ALL_ERRORS, code: {} };
/** Made when a method is first called. */
const validators = new WeakMap<AnyMethod, ValidateFunction>();

function validatorFor(method: AnyMethod): ValidateFunction {
  const known = validators.get(method) ?? validatorOf(method.params, PARAMS);
  validators.set(method, known);
  return known;
}

/** Checks and runs one request. Throws an RpcError. */
export async function call<Context>(methods: Readonly<Record<string, AnyMethod<Context>>>, name: string, params: unknown, context: Context): Promise<unknown> {
  const method = Object.hasOwn(methods, name) ? methods[name] : undefined;
  if (method === undefined) {
    throw new RpcError(METHOD_NOT_FOUND, `there is no method "${name}"; there are: ${Object.keys(methods).join(', ')}`);
  }
  const validate = validatorFor(method);
  const given = params ?? {};
  if (Array.isArray(given)) throw new RpcError(INVALID_PARAMS, `${name}: parameters are given by name, in an object`);
  if (!validate(given)) {
    // In the words of configuration errors: people write both.
    const problems = shapeErrors(new PathsOnly(name), given, validate.errors ?? [], []).map(({ path, message, expected, found }) => ({ path, message, expected, found }));
    throw new RpcError(INVALID_PARAMS, `${name}: ${problems.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('; ')}`, { problems });
  }
  try {
    return await method.run(given as never, context);
  } catch (error) {
    throw asRpcError(error);
  }
}
