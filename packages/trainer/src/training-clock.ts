/** Seconds of training, which stand still while something else is done. */
export class TrainingClock {
  private elapsed: number;
  private runningSince: number | null = performance.now();

  /** @param seconds of earlier sessions */
  constructor(seconds: number) {
    this.elapsed = seconds;
  }

  get seconds(): number {
    const running = this.runningSince === null ? 0 : performance.now() - this.runningSince;
    return this.elapsed + running / 1000;
  }

  /** Does something that is no training. */
  async excluding<Result>(action: () => Promise<Result>): Promise<Result> {
    this.elapsed = this.seconds;
    this.runningSince = null;
    try {
      return await action();
    } finally {
      this.runningSince = performance.now();
    }
  }
}
