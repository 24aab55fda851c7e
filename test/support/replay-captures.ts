/** Replays every capture of some directories, twice in each encapsulation. Run by scripts/replay-captures, under sanitizers. */
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { replay } from '../../src/replay/replay.js';
import { steerAll, valid } from './configuration.js';

const SLOWEST_MS = 20_000;

const directory = mkdtempSync(join(tmpdir(), 'weir-captures-'));
let passed = 0;
let failed = 0;
const notes = new Map<string, string[]>();
const note = (what: string, file: string): void => void notes.set(what, [...(notes.get(what) ?? []), file]);

async function once(file: string, encapsulation: 'nsh' | 'geneve'): Promise<{ outcome: string; stamped: Buffer; final: Buffer }> {
  const configuration = valid(steerAll(encapsulation));
  const [write, out] = [join(directory, 'stamped.pcap'), join(directory, 'final.pcap')];
  rmSync(write, { force: true });
  rmSync(out, { force: true });
  try {
    const { progress, counters } = await replay({ configuration, read: file, write, out, workload: [] });
    return { outcome: JSON.stringify({ ...progress, bytesRead: 0, counters }), stamped: readFileSync(write), final: readFileSync(out) };
  } catch (error) {
    return { outcome: (error as Error).message.replace(file, '…'), stamped: Buffer.alloc(0), final: Buffer.alloc(0) };
  }
}

for (const folder of process.argv.slice(2)) {
  for (const name of readdirSync(folder).filter((entry) => /\.pcap(ng)?$/.test(entry)).sort()) {
    const file = join(folder, name);
    for (const encapsulation of ['nsh', 'geneve'] as const) {
      const started = Date.now();
      const first = await once(file, encapsulation);
      const second = await once(file, encapsulation);
      const same = first.outcome === second.outcome && first.stamped.equals(second.stamped) && first.final.equals(second.final);
      const slow = Date.now() - started > SLOWEST_MS;
      if (same && !slow) passed++;
      else {
        failed++;
        console.log(`${name} (${encapsulation}): ${same ? 'too slow' : 'not the same bytes twice'}`);
      }
      if (encapsulation === 'geneve') continue;
      if (!first.outcome.startsWith('{')) note(first.outcome, name);
      else {
        const { error, unusable } = JSON.parse(first.outcome) as { error: string | null; unusable: number };
        if (error !== null) note(`cut short: ${error}`, name);
        if (unusable > 0) note('packets that are neither Ethernet frames nor IP', name);
      }
    }
  }
}
for (const [what, files] of notes) console.log(`${what}\n    ${files.join(' ')}`);
rmSync(directory, { recursive: true });
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exitCode = failed === 0 ? 0 : 1;
