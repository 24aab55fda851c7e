/** Changes of the desired state, one at a time: each is compiled, written down and swapped in whole, or it has changed nothing. */
import { ChangeRefused, GenerationMismatch } from '../config/refused.js';
import type { EventFacts, Events } from '../observe/events.js';
import type { Logger } from '../observe/log.js';
import { ACCEPTED, type Named } from '../observe/who.js';
import { idsRevision, type Ids } from '../program/ids.js';
import type { Origin, Prepared } from '../state/state.js';
import type { Desired } from './desired.js';
import type { MeshMap } from './mesh-map.js';
import type { NativeProgram } from './native.js';
import type { Runner } from './runner.js';

export interface ChangeAnswer {
  readonly generation: number;
  readonly changed: string;
  /** Who asked, in words. */
  readonly who: string;
}

/** What a change does to the desired state, and the events to tell when it is in force; nothing: that the configuration changed. */
export type Change = () => readonly EventFacts[] | void;

/**
 * Whether a change outlives the process: it must or it is not made, it does if it can, or nothing of it is kept. `own`: as `may`, and without
 * a generation, since weir does it by itself. A process that takes over and has read the state before it has to come to the same again.
 */
export type Kept = 'must' | 'may' | 'own' | 'no';

/** What changes are made of and where they go. */
export interface Ledger {
  readonly log: Logger;
  readonly desired: Desired;
  readonly ids: Ids;
  readonly origin: Origin;
  readonly events: Events;
  /** The desired state as a program. */
  readonly compile: () => NativeProgram;
  /** The map that service nodes get with each program; null: there is no mesh. */
  readonly mesh: MeshMap | null;
  /** Called when a program is in force, with who asked for it. */
  readonly installed: (who: Named) => void;
}

export class Transactions {
  #program!: NativeProgram;
  #runner!: Runner;
  #last: Promise<unknown> = Promise.resolve();
  /** Revision of the meaning that was written last. */
  #kept = '';
  #keptIds = '';

  constructor(private readonly ledger: Ledger) {}

  /** Compiles the first program and starts it. `keep` writes down what its numbers mean, so that streams may outlive the process; false where nothing is kept. */
  async begin(start: (program: NativeProgram, keep: () => Promise<boolean>) => Promise<Runner>): Promise<void> {
    this.#program = this.ledger.compile();
    const keep = (): Promise<boolean> =>
      this.#keepMeaning().catch((error: unknown) => {
        this.ledger.log.error(`the state can't be written (${(error as Error).message}): live streams will not outlive this process`);
        return false;
      });
    this.#runner = await start(this.#program, keep);
    await keep();
    this.ledger.mesh?.publish();
  }

  /** In force. */
  get program(): NativeProgram {
    return this.#program;
  }
  get runner(): Runner {
    return this.#runner;
  }

  /** What a start from a file begins with is kept too, so that the next start finds it and not what was before. */
  async keepFirst(): Promise<void> {
    try {
      await (await this.ledger.origin.keeper?.prepare(this.ledger.desired.toSave()))?.commit();
    } catch (error) {
      this.ledger.log.error({ error: (error as Error).message }, 'the state could not be written');
    }
  }

  /** Runs `work` after all changes before it. */
  queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** {@link Transactions.swap} in its turn. */
  change(what: string, who: Named, kept: Kept, change: Change): Promise<ChangeAnswer> {
    return this.queue(() => this.swap(what, who, kept, change));
  }

  /** One change, in a turn that queue() gave. If it, compiling, writing or installing fails, all is as before. */
  async swap(what: string, who: Named, kept: Kept, change: Change): Promise<ChangeAnswer> {
    // Editors count on the generation: what weir does by itself, and nobody has to know of, makes no new one.
    const undo = this.ledger.desired.begin(kept === 'must' || kept === 'may');
    let draft: Prepared | null = null;
    let facts: readonly EventFacts[];
    try {
      facts = change() ?? [{ kind: 'config', cause: what }];
      const program = this.ledger.compile();
      const { mesh } = this.ledger;
      const isNew = mesh?.isNew === true;
      // An instance that has failed is on the map no more while the disk is still at work on a path that came with it.
      if (kept === 'no') mesh?.publish();
      // What only has fewer members than before, or others after them, the next process can read as it was, so nobody waits for the disk.
      const late = mesh !== null && kept === 'no' && !isNew && idsRevision(this.ledger.ids) === this.#keptIds;
      const keep = (): Promise<unknown> => this.#keepMeaning().catch((error: unknown) => this.#unwritten(kept, error));
      // What may fail on a disk is done before the swap, both files at once; what is left then is a rename.
      const [meaning, drafted] = await Promise.allSettled([late ? null : keep(), kept === 'no' ? null : this.#draft(kept)]);
      if (drafted.status === 'fulfilled') draft = drafted.value;
      for (const written of [meaning, drafted]) if (written.status === 'rejected') throw written.reason;
      mesh?.publish();
      if (isNew) await mesh.known();
      await this.#runner.install(program);
      this.#program = program;
      if (late) await keep();
    } catch (error) {
      undo();
      await draft?.discard();
      throw error;
    }
    await draft?.commit().catch((error: unknown) => this.ledger.log.error({ error: (error as Error).message }, 'the change is in force, but its state could not be put in place: a restart begins with the one before'));
    this.ledger.log.info({ generation: this.ledger.desired.generation, who, [ACCEPTED]: true }, `${what} (${who})`);
    for (const fact of facts) this.ledger.events.emit(fact, who);
    this.ledger.installed(who);
    return { generation: this.ledger.desired.generation, changed: what, who: String(who) };
  }

  /**
   * Hands what it does over to another process: `work` runs while no change does, and changes that come meanwhile wait for it. It
   * ends the process, or this one goes on.
   */
  handOver(ifGeneration: number, work: () => Promise<void>): Promise<void> {
    return this.queue(() => {
      if (ifGeneration !== this.ledger.desired.generation) throw new GenerationMismatch(ifGeneration, this.ledger.desired.generation);
      return work();
    });
  }

  /** Before a program is in force: what its numbers mean, for the process after this one. False where nothing is kept. */
  async #keepMeaning(): Promise<boolean> {
    const { continuity } = this.ledger.origin;
    if (continuity === undefined) return false;
    const revision = this.ledger.desired.meaningRevision(this.ledger.ids);
    if (revision !== this.#kept) await continuity.keep(this.ledger.desired.meaning(), this.ledger.ids);
    this.#kept = revision;
    this.#keptIds = idsRevision(this.ledger.ids);
    return true;
  }

  async #draft(kept: Exclude<Kept, 'no'>): Promise<Prepared | null> {
    try {
      return (await this.ledger.origin.keeper?.prepare(this.ledger.desired.toSave())) ?? null;
    } catch (error) {
      this.#unwritten(kept, error);
      return null;
    }
  }

  #unwritten(kept: Kept, error: unknown): void {
    const why = `the state can't be written (${(error as Error).message})`;
    if (kept === 'must') throw new ChangeRefused(`${why}, so nothing was changed: make room for it, or start weir with another state_dir`, 'state_dir');
    this.ledger.log.error(`${why}: the change will be lost when weir ends`);
  }

  /** When the changes that were asked for have been made. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
