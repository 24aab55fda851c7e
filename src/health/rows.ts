/** The rows of plain numbers that native code gives, by instance id. */
import { PROBE_COLUMNS, SIGNAL_COLUMNS } from '../dataplane/native.js';

export interface SignalRow {
  readonly streams: number;
  readonly sent: number;
  readonly sentBytes: number;
  readonly received: number;
  readonly receivedBytes: number;
  readonly unreachable: number;
  /** Streams that were placed there, ever. */
  readonly placed: number;
  /** When a router said last that the way carries less than packets may measure, in microseconds of native code's clock, and how much; 0: never. */
  readonly toldAt: number;
  readonly toldMtu: number;
}

export interface ProbeCounts {
  readonly answeredInARow: number;
  readonly lostInARow: number;
  readonly sent: number;
  readonly answered: number;
  readonly refused: number;
  readonly late: number;
  readonly latencyMs: number;
}

function rowsOf<T>(values: Float64Array, columns: number, read: (row: Float64Array) => T): Map<number, T> {
  const rows = new Map<number, T>();
  for (let at = 0; at + columns <= values.length; at += columns) rows.set(values[at] ?? -1, read(values.subarray(at, at + columns)));
  return rows;
}

export const readSignals = (values: Float64Array): Map<number, SignalRow> =>
  rowsOf(values, SIGNAL_COLUMNS, ([, streams = 0, sent = 0, sentBytes = 0, received = 0, receivedBytes = 0, unreachable = 0, placed = 0, toldAt = 0, toldMtu = 0]) => ({ streams, sent, sentBytes, received, receivedBytes, unreachable, placed, toldAt, toldMtu }));

export const readProbes = (values: Float64Array): Map<number, ProbeCounts> =>
  rowsOf(values, PROBE_COLUMNS, ([, answeredInARow = 0, lostInARow = 0, sent = 0, answered = 0, refused = 0, late = 0, latencyMs = 0]) => ({ answeredInARow, lostInARow, sent, answered, refused, late, latencyMs }));
