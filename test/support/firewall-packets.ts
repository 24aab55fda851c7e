/** Packets for firewalls: what there is in a network, and what should not be there. In the order in which they are sent. */
import { ACK, FIN, PSH, RST, SYN, URG, echo, icmpError, ipPacket, query, tcp, tcpSegment, udp, udpDatagram, type Built, type Flow } from './segments.js';

export const RULES = {
  default: 'drop',
  inside: ['10.1.0.0/24', 'fd01::/64'],
  rules: [
    { name: 'no_telnet', action: 'drop', protocol: 'tcp', destination_port: 23 },
    { name: 'not_these', action: 'drop', direction: 'out', source: ['10.1.0.64/26', 'fd01::40/122'] },
    { name: 'web', action: 'accept', direction: 'out', protocol: 'tcp', destination_port: [80, 443, '8000-8010'] },
    { name: 'from_low', action: 'accept', direction: 'out', protocol: 'udp', source_port: '1-1023' },
    { name: 'dns', action: 'accept', direction: 'out', protocol: ['tcp', 'udp'], destination_port: 53, destination: ['10.2.0.0/25', 'fd02::/64'] },
    { name: 'ssh_in', action: 'accept', direction: 'in', protocol: 'tcp', destination_port: 22, destination: ['10.1.0.2', 'fd01::2'] },
    { name: 'ping', action: 'accept', direction: 'out', protocol: ['icmp', 'icmpv6'] },
  ],
} as const;

/** The same for nftables; `a0` is the inside. */
export const NFT = `
table inet fw {
  chain forward {
    type filter hook forward priority 0; policy drop;
    udp dport 65000 accept
    ct state established,related accept
    ct state invalid drop
    tcp dport 23 drop
    iifname "a0" ip saddr 10.1.0.64/26 drop
    iifname "a0" ip6 saddr fd01::40/122 drop
    iifname "a0" tcp dport { 80, 443, 8000-8010 } accept
    iifname "a0" udp sport 1-1023 accept
    iifname "a0" ip daddr 10.2.0.0/25 meta l4proto { tcp, udp } th dport 53 accept
    iifname "a0" ip6 daddr fd02::/64 meta l4proto { tcp, udp } th dport 53 accept
    iifname "b0" ip daddr 10.1.0.2 tcp dport 22 accept
    iifname "b0" ip6 daddr fd01::2 tcp dport 22 accept
    iifname "a0" meta l4proto { icmp, ipv6-icmp } accept
  }
}`;

export interface Ends {
  readonly a: string;
  readonly b: string;
  /** Inside, but not allowed out. */
  readonly banned: string;
  /** A router on B's side. */
  readonly router: string;
}

export const ENDS: readonly Ends[] = [
  { a: '10.1.0.2', b: '10.2.0.2', banned: '10.1.0.66', router: '10.2.0.77' },
  { a: 'fd01::2', b: 'fd02::2', banned: 'fd01::42', router: 'fd02::77' },
];

/** One TCP connection whose ends can say anything; keeps what would be right. */
export class Talk {
  aNext: number;
  bNext: number;

  constructor(
    readonly flow: Flow,
    aFirst = 1000,
    bFirst = 500_000,
    /** Who opens it. */
    readonly opener: 'a' | 'b' = 'a',
  ) {
    this.aNext = aFirst;
    this.bNext = bFirst;
  }

  /** The next segment of one end, as it should be, but for the fields given. */
  say(fromA: boolean, flags: number, payload = '', fields: { shift?: number; ackShift?: number; window?: number; scale?: number; still?: boolean } = {}): Built {
    const [own, other] = fromA ? [this.aNext, this.bNext] : [this.bNext, this.aNext];
    const { shift = 0, ackShift = 0, window, scale, still = false } = fields;
    const built = tcp(this.flow, fromA, {
      flags,
      sequence: (own + shift) >>> 0,
      acknowledgement: (flags & ACK) === 0 ? 0 : (other + ackShift) >>> 0,
      payload,
      ...(window === undefined ? {} : { window }),
      ...(scale === undefined ? {} : { scale }),
    });
    if (!still && shift === 0) {
      const step = payload.length + ((flags & SYN) !== 0 ? 1 : 0) + ((flags & FIN) !== 0 ? 1 : 0);
      if (fromA) this.aNext = (own + step) >>> 0;
      else this.bNext = (own + step) >>> 0;
    }
    return built;
  }

  open(scale?: number): Built[] {
    const first = this.opener === 'a';
    const option = scale === undefined ? {} : { scale };
    return [this.say(first, SYN, '', option), this.say(!first, SYN | ACK, '', option), this.say(first, ACK)];
  }

  close(): Built[] {
    return [this.say(true, FIN | ACK), this.say(false, ACK), this.say(false, FIN | ACK), this.say(true, ACK)];
  }
}

/** Beyond any window, scaled or not, and twice. */
const FAR = 100_000_000;

export function scenarios({ a, b, banned, router }: Ends): Built[] {
  let port = 20_000;
  const flow = (bPort: number, aPort = port++, from = a): Flow => ({ a: from, b, aPort, bPort });
  const out: Built[] = [];
  const add = (...packets: Built[]): void => void out.push(...packets);
  const talk = (bPort: number, aFirst?: number, bFirst?: number): Talk => new Talk(flow(bPort), aFirst, bFirst);
  const quoted = (of: Flow, fromA = true): Buffer => (fromA ? ipPacket(of.a, of.b, 6, tcpSegment(of, true)) : ipPacket(of.b, of.a, 6, tcpSegment(of, false)));

  // A connection that is allowed, from its opening to its end.
  const web = talk(80);
  add(...web.open(), web.say(true, ACK | PSH, 'GET / HTTP/1.0\r\n\r\n'), web.say(false, ACK), web.say(false, ACK | PSH, 'HTTP/1.0 200 OK\r\n\r\nhello'), web.say(true, ACK), ...web.close());
  add(web.say(true, ACK), web.say(false, ACK));
  // Sequence numbers that wrap.
  const wrapping = talk(443, 0xfffffff8, 0xfffffffe);
  add(...wrapping.open(7), wrapping.say(true, ACK | PSH, 'x'.repeat(100)), wrapping.say(false, ACK | PSH, 'y'.repeat(1000)), wrapping.say(true, ACK), ...wrapping.close());
  // Ports, prefixes and directions that are not allowed.
  for (const bPort of [22, 23, 8011, 81, 7999]) {
    const refused = talk(bPort);
    add(refused.say(true, SYN), refused.say(false, SYN | ACK), refused.say(true, ACK));
  }
  for (const bPort of [8000, 8005, 8010]) add(...talk(bPort).open());
  add(new Talk(flow(80, port++, banned)).say(true, SYN));
  const inwards = new Talk({ a, b, aPort: 22, bPort: port++ }, 10, 20, 'b');
  add(...inwards.open(), inwards.say(false, ACK | PSH, 'SSH-2.0'), inwards.say(true, ACK | PSH, 'SSH-2.0'), ...inwards.close());
  const notInwards = new Talk({ a, b, aPort: 80, bPort: port++ }, 10, 20, 'b');
  add(...notInwards.open());
  // Nobody asked for these.
  for (const flags of [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, PSH | ACK]) {
    const unasked = talk(80);
    add(unasked.say(true, flags, flags & PSH ? 'data' : ''), unasked.say(false, flags));
  }
  // Flags that make no sense, on a new and on a live connection.
  for (const flags of [0, FIN, SYN | FIN, SYN | RST, FIN | PSH | URG, SYN | FIN | RST | ACK | PSH | URG, SYN | FIN | ACK, RST | FIN, PSH, URG]) {
    add(talk(80).say(true, flags));
    const live = talk(80);
    add(...live.open(), live.say(true, flags, '', { still: true }), live.say(false, flags, '', { still: true }), live.say(true, ACK | PSH, 'on'));
  }
  add(...[SYN | PSH, ACK | URG, FIN | ACK | URG].map((flags) => talk(80).say(true, flags)));
  // Retransmissions, and a second SYN with another number.
  const again = talk(80);
  add(again.say(true, SYN, '', { still: true }), again.say(true, SYN), again.say(false, SYN | ACK, '', { still: true }), again.say(false, SYN | ACK), again.say(true, ACK), again.say(true, ACK | PSH, 'one', { still: true }), again.say(true, ACK | PSH, 'one'), again.say(true, ACK, '', { shift: -3 }));
  add(again.say(true, SYN, '', { shift: 77_777, still: true }), again.say(false, ACK), again.say(true, ACK | PSH, 'two'), again.say(false, SYN | ACK, '', { shift: -1, still: true }));
  // Before the answer.
  const early = talk(80);
  add(early.say(true, SYN), early.say(true, ACK), early.say(true, FIN | ACK, '', { still: true }), early.say(false, FIN | ACK, '', { still: true }), early.say(false, SYN | ACK), early.say(true, ACK));
  const halfOpen = talk(80);
  add(halfOpen.say(true, SYN), halfOpen.say(false, ACK, '', { shift: 5, still: true }), halfOpen.say(true, RST, '', { still: true }));
  // Refused by the other end, and tried again.
  const closed = talk(80);
  add(closed.say(true, SYN), closed.say(false, RST | ACK, '', { still: true }), closed.say(true, SYN, '', { still: true }));
  // Resets: exact, beyond, before.
  for (const shift of [0, FAR, -FAR]) {
    const reset = talk(80);
    add(...reset.open(), reset.say(true, ACK | PSH, 'abc'), reset.say(false, ACK), reset.say(false, RST, '', { shift, still: true }), reset.say(true, ACK | PSH, 'after'), reset.say(false, ACK));
  }
  // Beyond the window, and acknowledging what was never sent.
  const window = talk(80);
  add(...window.open(), window.say(true, ACK | PSH, 'far', { shift: FAR }), window.say(false, ACK, '', { ackShift: FAR }), window.say(true, ACK | PSH, 'old', { shift: -FAR }), window.say(true, ACK | PSH, 'near'));
  // Both sides open.
  const both = talk(80);
  add(both.say(true, SYN, '', { still: true }), both.say(false, SYN, '', { still: true }));
  // The same ports again, after the end.
  const first = talk(80);
  add(...first.open(), ...first.close());
  const second = new Talk(first.flow, 900_000, 7_000_000);
  add(...second.open(), second.say(true, ACK | PSH, 'again'));
  // Half closed.
  const half = talk(80);
  add(...half.open(), half.say(true, FIN | ACK), half.say(false, ACK), half.say(false, ACK | PSH, 'more'), half.say(true, ACK), half.say(false, ACK | PSH, 'yet more'), half.say(true, ACK), half.say(false, FIN | ACK), half.say(true, ACK));

  // UDP.
  const dns = flow(53);
  add(udp(dns, true), udp(dns, false), udp(dns, true), udp(dns, false));
  const other = flow(5353);
  add(udp(other, true), udp(other, false));
  add(udp(flow(9999, 1023), true), udp(flow(9999, 1024), true), udp(flow(53, 1024), false));
  // Queries of ICMP, and answers that nobody asked for.
  const ping = flow(0);
  add(echo(ping, true), echo(ping, false, true), echo(ping, true), echo(ping, false, true), echo(ping, false), echo(ping, true, true));
  add(echo(flow(0), false, true), echo(flow(0), true, true), echo(flow(0), false), echo(flow(0, port++, banned), true));
  if (!a.includes(':')) for (const type of [13, 17]) {
    const asked = flow(0);
    add(query(asked, true, type), query(asked, false, type + 1), query(flow(0), false, type + 1));
  }
  // Errors: about a live connection (from its end, from a router), about its answers, about none, and with an address that can't be.
  const live = talk(80);
  add(...live.open());
  const tooBig = a.includes(':') ? ([2, 0] as const) : ([3, 4] as const);
  const expired = a.includes(':') ? ([3, 0] as const) : ([11, 0] as const);
  add(icmpError(live.flow, 6, false, b, a, quoted(live.flow)), icmpError(live.flow, 6, false, router, a, quoted(live.flow), ...tooBig), icmpError(live.flow, 6, false, router, a, quoted(live.flow), ...expired), icmpError(live.flow, 6, true, a, b, quoted(live.flow, false)));
  const unknown = flow(80);
  add(icmpError(unknown, 6, false, b, a, quoted(unknown)), icmpError(unknown, 6, true, a, b, quoted(unknown, false)), icmpError(live.flow, 6, false, router, banned, quoted(live.flow)));
  const lookup = flow(53);
  add(udp(lookup, true), icmpError(lookup, 17, false, b, a, ipPacket(a, b, 17, udpDatagram(lookup, true))));
  const refusedLookup = flow(5353);
  add(udp(refusedLookup, true), icmpError(refusedLookup, 17, false, b, a, ipPacket(a, b, 17, udpDatagram(refusedLookup, true))));
  add(live.say(true, ACK | PSH, 'still there'), live.say(false, ACK));
  return out;
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Connections whose ends say what they like. */
export function walks({ a, b }: Ends, seed: number, connections: number, steps: number): Built[] {
  const next = random(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T;
  const out: Built[] = [];
  for (let n = 0; n < connections; n++) {
    const talk = new Talk({ a, b, aPort: 30_000 + n, bPort: pick([80, 443]) }, Math.floor(next() * 2 ** 32), Math.floor(next() * 2 ** 32));
    out.push(...talk.open(pick([undefined, 0, 7])));
    for (let step = 0; step < steps; step++) {
      const fromA = next() < 0.5;
      const kind = next();
      if (kind < 0.5) out.push(talk.say(fromA, ACK | PSH, 'd'.repeat(1 + Math.floor(next() * 1400))));
      else if (kind < 0.6) out.push(talk.say(fromA, ACK));
      else if (kind < 0.68) out.push(talk.say(fromA, FIN | ACK));
      else if (kind < 0.74) out.push(talk.say(fromA, ACK | PSH, 'far', { shift: pick([FAR, -FAR]) }));
      else if (kind < 0.8) out.push(talk.say(fromA, ACK, '', { ackShift: FAR }));
      else if (kind < 0.86) out.push(talk.say(fromA, RST, '', { shift: pick([FAR, -FAR]), still: true }));
      else if (kind < 0.9) out.push(talk.say(fromA, pick([0, FIN, SYN | FIN, FIN | PSH | URG]), '', { still: true }));
      else if (kind < 0.93) out.push(talk.say(fromA, SYN | ACK, '', { still: true }));
      else if (kind < 0.95) out.push(talk.say(fromA, RST | ACK, '', { still: true }));
      else out.push(talk.say(fromA, ACK | PSH, 'copy', { shift: -4, still: true }));
    }
  }
  return out;
}
