/** Packets that may not leave yet: until every state that they made is kept elsewhere, too. */
export interface Waiting {
  done(): void;
}

export class Hold {
  #left = 1;

  constructor(private readonly released: () => void) {}

  /** One more state to wait for. */
  one(): Waiting {
    this.#left++;
    let over = false;
    return {
      done: () => {
        if (over) return;
        over = true;
        this.#less();
      },
    };
  }

  /** No more come. */
  sealed(): void {
    this.#less();
  }

  /** Nothing is left to wait for. */
  get open(): boolean {
    return this.#left === 0;
  }

  #less(): void {
    if (--this.#left === 0) this.released();
  }
}
