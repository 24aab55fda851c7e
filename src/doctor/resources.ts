/** Files, ports, memory and neighbours that a configuration asks for. */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import type { Configuration } from '../config/configuration.js';
import { groupId } from '../control/access.js';
import { closedToGroup } from '../control/way.js';
import { native } from '../dataplane/native.js';
import { loadReportKey } from '../load/key.js';
import { loadAffinityKey } from '../program/compile.js';
import { destinationsOf, placesOf } from '../program/destinations.js';
import { Neighbours } from '../dataplane/neighbours.js';
import { holdStampPorts } from '../dataplane/udp-sink.js';
import { fail, ok, read, sysctl, warn, type Finding } from './finding.js';

const RESOLVE_MS = 1500;
/** A stream's entry and its share of the index. */
const STREAM_BYTES = 200;

const WHO = '"$(id -un)"';

/** The nearest directory that there is. */
function standing(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : standing(dirname(path));
}

function may(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

function directory(subject: string, path: string, mode = '750'): Finding[] {
  const there = standing(path);
  if (may(there, constants.W_OK | constants.X_OK)) return [ok(subject, path === there ? `${path} can be written` : `${path} can be made`)];
  const mend = `sudo install -d -o ${WHO} -m ${mode} ${path}`;
  return [fail(subject, path === there ? `${path} can't be written by this user` : `${path} is not there, and this user can't make it in ${there}`, mend)];
}

/** Whether those who may only ask get as far as being asked who they are. */
function readersOf(name: string, socket: string): Finding[] {
  const group = groupId(name);
  if (group === null) return [fail('control socket', `there is no group "${name}" (control.read_only_group)`, `sudo groupadd --system ${name}`)];
  const closed = closedToGroup(socket, group);
  if (closed === null) return [];
  const { directory: place, mend } = closed;
  return [warn('control socket', `members of ${name} (control.read_only_group) can't enter ${place}, so they can't get to the socket`, `sudo chmod ${mend} ${place}; systemd: RuntimeDirectoryMode=0755`)];
}

interface Key {
  readonly subject: string;
  readonly file: string;
  /** That a new one is made with. */
  readonly bytes: number;
  /** Throws a Failure for one that is none. */
  load(): unknown;
  /** What can be done by who knows it. */
  readonly harm: string;
}

function keysOf({ affinityKeyFile, mesh, load }: Configuration): Key[] {
  const keys: Key[] = [];
  if (affinityKeyFile !== null) keys.push({ subject: 'affinity key', file: affinityKeyFile, bytes: 16, load: () => loadAffinityKey(affinityKeyFile), harm: 'steer streams to an instance of his choice' });
  if (mesh !== null) keys.push({ subject: 'mesh key', file: mesh.keyFile, bytes: 32, load: () => loadReportKey(mesh.keyFile, 'mesh.key.file'), harm: 'speak for a node' });
  if (load !== null) keys.push({ subject: 'load key', file: load.keyFile, bytes: 32, load: () => loadReportKey(load.keyFile, 'load.key.file'), harm: 'report load for an instance' });
  return keys;
}

function keyFile({ subject, file, bytes, load, harm }: Key): Finding[] {
  const make = `(umask 077; head -c ${bytes} /dev/urandom > ${file})`;
  if (may(dirname(file), constants.X_OK) && !existsSync(file)) return [fail(subject, `${file} is not there`, `${make} # and the same file wherever it has to be known`)];
  if (!may(file, constants.R_OK)) return [fail(subject, `${file} can't be read by this user`, `sudo chown ${WHO} ${file}; sudo chmod 400 ${file}`)];
  try {
    load();
  } catch (error) {
    return [fail(subject, (error as Error).message.replace(/ Make one with: .*/, ''), make)];
  }
  if ((statSync(file).mode & 0o077) !== 0) return [warn(subject, `${file} can be read by others: whoever knows it can ${harm}`, `chmod 400 ${file}`)];
  return [ok(subject, `${file} can be read, by its owner alone`)];
}

export function files(configuration: Configuration, running: string | null): Finding[] {
  const { stateDir, control } = configuration;
  const findings = directory('state directory', stateDir);
  const readers = control.readOnlyGroup;
  if (running !== null) {
    const { mode, uid, gid } = statSync(running);
    findings.push(ok('control socket', `weir answers on ${running} (mode ${(mode & 0o777).toString(8).padStart(4, '0')}, user ${uid}, group ${gid})`));
  } else if (existsSync(control.socket) && !may(control.socket, constants.R_OK | constants.W_OK)) {
    const { gid } = statSync(control.socket);
    findings.push(fail('control socket', `${control.socket} does not admit this user`, `sudo usermod -aG "$(getent group ${gid} | cut -d: -f1)" ${WHO}; or sudo weir …`));
  } else {
    findings.push(...directory('control socket', dirname(control.socket), readers === null ? '750' : '755'));
  }
  if (readers !== null) findings.push(...readersOf(readers, running ?? control.socket));
  if ((control.mode & 0o002) !== 0) findings.push(warn('control socket', `its mode lets every user of this host change weir`, 'control: {mode: "0660"}'));
  for (const key of keysOf(configuration)) findings.push(...keyFile(key));
  return findings;
}

export async function ports({ underlays, metrics }: Configuration): Promise<Finding[]> {
  const findings: Finding[] = [];
  const infos = underlays.flatMap((underlay) => native.interfaceInfo(underlay.interface) ?? []);
  const addresses = infos.flatMap((info) => [info.ipv4[0], info.ipv6[0]]).filter((address) => address !== undefined);
  if (infos.length > 0) {
    try {
      holdStampPorts(addresses)();
      findings.push(ok('stamp ports', `UDP 4790 and 6081 are free on ${addresses.join(' and ')}`));
    } catch (error) {
      findings.push(fail('stamp ports', (error as Error).message, `sudo ss -ulpn '( sport = :4790 or sport = :6081 )'; ip -d link show type vxlan; ip -d link show type geneve`));
    }
  }
  if (metrics !== null) {
    const refused = await listens(metrics.host, metrics.port);
    if (refused !== null) findings.push(fail('metrics', `metrics.listen: ${refused}`, `sudo ss -tlpn 'sport = :${metrics.port}'; or another port in metrics.listen`));
  }
  return findings;
}

function listens(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error) => resolve(error.message));
    server.listen(port, host, () => server.close(() => resolve(null)));
  });
}

export async function neighbours(configuration: Configuration): Promise<Finding[]> {
  const infos = configuration.underlays.map((underlay) => native.interfaceInfo(underlay.interface));
  const there = infos.flatMap((info) => info ?? []);
  if (there.length === 0 || (infos.length === 1 && there[0]?.loopback === true)) return [];
  const looked = new Neighbours(() => infos);
  const destinations = destinationsOf(configuration);
  const astray = new Set(looked.unreachable(destinations));
  const missing = new Set(await looked.resolve(destinations.filter(({ address }) => !astray.has(address)), RESOLVE_MS));
  const named = placesOf(configuration);
  const devices = there.map(({ name }) => name).join(' or ');
  const findings = named.flatMap(({ key, path, address }) => {
    if (astray.has(address)) return [fail(`instance ${key}`, `the kernel's route to ${address} does not lead through ${devices}${infos.length > 1 ? ` (${path})` : ''}`, `sudo ip route replace ${address} dev ${there[0]?.name} # or via its router`)];
    return missing.has(address) ? [warn(`instance ${key}`, `no neighbour answers for ${address}: it gets no packets until one does`, `ping -c 1 ${address}; ip neighbour show ${address}`)] : [];
  });
  if (findings.length === 0 && named.length > 0) findings.push(ok('instances', `each of ${named.length} has a neighbour on ${devices}`));
  return findings;
}

export function memory({ flows }: Configuration): Finding[] {
  const available = Number(/^MemAvailable:\s+(\d+) kB/m.exec(read('/proc/meminfo') ?? '')?.[1] ?? Infinity) * 1024;
  const needed = flows.max * STREAM_BYTES;
  if (needed <= available) return [];
  return [warn('memory', `a full flow table of ${flows.max} streams takes ${Math.round(needed / 2 ** 20)} MiB, and ${Math.round(available / 2 ** 20)} are available`, `flows: {max: ${Math.max(1000, Math.floor(available / 2 / STREAM_BYTES))}}`)];
}

/** What the kernel does with stamped packets beside handing them to weir. */
export function hostStack(): Finding[] {
  if (sysctl('net/netfilter/nf_conntrack_max') === null || Number(sysctl('net/netfilter/nf_conntrack_count') ?? 0) === 0) return [];
  const rule = "sudo nft add table inet weir; sudo nft add chain inet weir notrack '{ type filter hook prerouting priority raw; }'; sudo nft add rule inet weir notrack udp dport '{ 4790, 6081 }' notrack";
  return [warn('host', 'connection tracking is on: it keeps an entry for each outer source port of stamped packets that come in', rule)];
}
