/** Who asks for a change: a process at the control socket, or weir itself. */

export class Who {
  constructor(
    /** User name where it is known, `uid N` where not; `weir` for what happens by itself. */
    readonly name: string,
    readonly uid: number | null = null,
    readonly gid: number | null = null,
    /** Null where the process is outside weir's PID namespace. */
    readonly pid: number | null = null,
  ) {}

  /** `alice, uid 1000, pid 4711`; without brackets, so that it can stand in some. */
  toString(): string {
    const uid = this.uid === null || this.name === `uid ${this.uid}` ? [] : [`uid ${this.uid}`];
    return [this.name, ...uid, ...(this.pid === null ? [] : [`pid ${this.pid}`])].join(', ');
  }
}

/** In code that has no more than a name. */
export type Named = Who | string;

export const WEIR = new Who('weir');

export const whoIs = (named: Named): Who => (typeof named === 'string' ? new Who(named) : named);

/** A field of the log line of an accepted change, which is written however many there are. Being a symbol, it is not in the line. */
export const ACCEPTED = Symbol('accepted change');
