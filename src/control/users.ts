/** What each user of the control socket has of what there is a limited amount of: connections, and requests a second. */
import type { Access } from './access.js';
import { Pace } from './pace.js';

/** Of one user; all together are bounded by the server. Root and the user that weir runs as may have all of them. */
export const MOST_CONNECTIONS_OF_USER = 64;
const REQUESTS_A_SECOND: Readonly<Record<Exclude<Access, 'none'>, { readonly perSecond: number; readonly burst: number }>> = {
  all: { perSecond: 2000, burst: 8000 },
  read: { perSecond: 200, burst: 400 },
};

interface User {
  connections: number;
  readonly pace: Pace;
}

export class Users {
  readonly #users = new Map<string, User>();

  /** What a new connection may use, or null where its user has too many. `uid` null: not known. */
  enter(uid: number | null, access: Exclude<Access, 'none'>, unlimited: boolean): { readonly pace: Pace; readonly leave: () => void } | null {
    // Who may read and who may do more are told apart, should a user's groups have changed.
    const name = `${uid ?? 'unknown'} ${access}`;
    const { perSecond, burst } = REQUESTS_A_SECOND[access];
    const user = this.#users.get(name) ?? { connections: 0, pace: new Pace(perSecond, burst) };
    if (!unlimited && user.connections >= MOST_CONNECTIONS_OF_USER) return null;
    user.connections++;
    this.#users.set(name, user);
    const leave = (): void => {
      user.connections--;
      // Who has spent all must not get it anew by connecting again.
      for (const [other, { connections, pace }] of this.#users) if (connections === 0 && pace.rested) this.#users.delete(other);
    };
    return { pace: user.pace, leave };
  }
}
