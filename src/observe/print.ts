/** State as people read it: plain tables, units that fit. */
import Table from 'cli-table3';

const PLAIN = {
  top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '',
  left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ',
};

export type Cell = string | number | null | undefined;

/** Columns of numbers are right-aligned. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  if (rows.length === 0) return '(none)';
  const numeric = head.map((_, column) => rows.every((row) => typeof row[column] === 'number'));
  const out = new Table({
    head: [...head],
    chars: PLAIN,
    colAligns: numeric.map((isNumber) => (isNumber ? 'right' : 'left')),
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 0 },
  });
  for (const row of rows) out.push(row.map((cell) => (cell === null || cell === undefined ? '-' : String(cell))));
  return out
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = n;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return unit === 0 ? `${value} B` : `${value.toFixed(1)} ${units[unit]}`;
}

export function code(n: number): string {
  return `0x${n.toString(16).padStart(8, '0')}`;
}

export function endpoint(address: string, port: number, protocol: string): string {
  if (protocol !== 'tcp' && protocol !== 'udp') return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Reasons that occurred, one a line, or a line that says none did. */
export function counts(title: string, byReason: Readonly<Record<string, number>>): string {
  const rows = Object.entries(byReason).filter(([, n]) => n > 0);
  return rows.length === 0 ? `${title}: none` : table([title, 'packets'], rows);
}
