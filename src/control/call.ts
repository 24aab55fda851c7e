/** One request: its method is found, its parameters are held against their schema, what it throws becomes an answer. */
import type { Options, ValidateFunction } from 'ajv';
import { OWN_SCHEMA } from '../config/own-schema.js';
import { validatorOf } from '../validator.js';
import { asRpcError } from './change-methods.js';
import type { AnyMethod } from './method.js';
import { INVALID_PARAMS, METHOD_NOT_FOUND, RpcError } from './protocol.js';

export const PARAMS: Options = { ...OWN_SCHEMA, code: {}, allErrors: true };
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
    const problems = (validate.errors ?? [])
      .filter((error) => error.keyword !== 'anyOf')
      .map((error) => {
        const extra = (error.params as { additionalProperty?: string }).additionalProperty;
        const path = [error.instancePath.slice(1).replaceAll('/', '.'), extra].filter((part) => part !== undefined && part !== '').join('.');
        const allowed = (error.params as { allowedValues?: unknown[] }).allowedValues;
        return { path, message: allowed === undefined ? String(error.message) : `must be one of ${allowed.join(', ')}` };
      });
    throw new RpcError(INVALID_PARAMS, `${name}: ${problems.map((p) => `${p.path === '' ? 'parameters' : p.path} ${p.message}`).join('; ')}`, { problems });
  }
  try {
    return await method.run(given as never, context);
  } catch (error) {
    throw asRpcError(error);
  }
}
