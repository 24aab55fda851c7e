import t from 'tap';
import { runHook } from '../../src/scale/hooks.js';

await t.test('what a hook leaves running may say the address; weir may be late to read it', async (t) => {
  const command = ['/bin/sh', '-c', `(sleep 0.08; echo '{"address": "10.20.0.7"}'; sleep 5) & exit 0`];
  const outcome = runHook({ kind: 'exec', command }, { action: 'add', service: 'firewall', instance: 'firewall-1', address: null }, 5000, new AbortController().signal);
  // Busy from when the hook has ended until long after its last words.
  setTimeout(() => setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400)), 60);
  t.strictSame(await outcome, { ok: true, address: '10.20.0.7' });
});
