/** What tests start has nothing of the test runner in it. */
import { execFileSync, spawnSync } from 'node:child_process';
import t from 'tap';
import { run } from '../support/lab.js';

const ASK = ['-p', 'JSON.stringify([process.env.NODE_OPTIONS, process.execArgv.length])'];

t.test('no loader in NODE_OPTIONS, however it is started', async (t) => {
  t.equal(process.env['NODE_OPTIONS'], undefined);
  const answer = '[null,2]\n';
  t.equal(spawnSync(process.execPath, ASK, { encoding: 'utf8' }).stdout, answer);
  t.equal(execFileSync(process.execPath, ASK, { encoding: 'utf8', env: { PATH: process.env['PATH'] } }), answer);
  t.equal((await run([process.execPath, ...ASK])).stdout, answer);
  t.equal((await run(['sh', '-c', 'exec "$@"', 'sh', process.execPath, ...ASK])).stdout, answer);
});
