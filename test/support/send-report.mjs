// Sends load reports, good and bad ones, from wherever it runs: `send-report.mjs TO PORT SERVICE NAME KEY_FILE KIND`.
import { createSocket } from 'node:dgram';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { encodeReport } from '../../dist/load/report.js';

const [to, port, service, name, file, kind] = process.argv.slice(2);
const key = kind === 'forged' ? randomBytes(32) : readFileSync(file);
const report = { service, name, session: 99n, atMs: Date.now() + (kind === 'stale' ? -60_000 : 0), sequence: 1, intervalMs: 60_000, packetsPerSecond: 10, bytesPerSecond: 1000, cpu: kind === 'absurd' ? NaN : 77, streams: null, queue: null };
const datagram = kind === 'malformed' ? randomBytes(130) : encodeReport(report, key);
const socket = createSocket('udp4');
const send = () => new Promise((resolve, reject) => socket.send(datagram, Number(port), to, (error) => (error ? reject(error) : resolve())));
await send();
if (kind === 'replayed') await send();
socket.close();
