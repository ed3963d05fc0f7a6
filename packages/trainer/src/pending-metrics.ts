import type { StepMetrics } from "@espalier/tracking";
import * as tf from "@tensorflow/tfjs";

/** A step that is on its way through the device: its loss and gradient norm are not read back yet. */
export interface PendingStep extends Omit<StepMetrics, "loss" | "gradientNorm" | "tokensPerSecond"> {
  /** A scalar for each micro-step; disposed when read. */
  readonly losses: readonly tf.Scalar[];
  /** Scalar; disposed when read. */
  readonly norm: tf.Scalar;
}

const mostSteps = 8;
const mostMilliseconds = 500;

/**
 * Losses and gradient norms that stay on the device for a few steps and are read back together, so that no step waits
 * for the device.
 */
export class PendingMetrics {
  private pending: PendingStep[] = [];
  private lastRead: { tokens: number; seconds: number };
  private readAt = performance.now();

  /** @param start tokens and seconds of the run so far */
  constructor(start: { readonly tokens: number; readonly seconds: number }) {
    this.lastRead = { tokens: start.tokens, seconds: start.seconds };
  }

  add(step: PendingStep): void {
    this.pending.push(step);
  }

  /** Whether it is time to read: eight steps, or half a second. */
  get isDue(): boolean {
    return (
      this.pending.length >= mostSteps ||
      (this.pending.length > 0 && performance.now() - this.readAt >= mostMilliseconds)
    );
  }

  /** Reads all that is pending, in one transfer. Speed is measured over the steps that are read together. */
  async read(): Promise<StepMetrics[]> {
    const steps = this.pending;
    this.pending = [];
    this.readAt = performance.now();
    const last = steps.at(-1);
    if (last === undefined) return [];
    const packed = tf.stack(steps.flatMap((step) => [...step.losses, step.norm]));
    for (const step of steps) dispose(step);
    const values = await packed.data<"float32">();
    packed.dispose();
    const seconds = last.seconds - this.lastRead.seconds;
    const tokensPerSecond = seconds > 0 ? (last.tokens - this.lastRead.tokens) / seconds : 0;
    this.lastRead = last;
    let at = 0;
    return steps.map(({ losses, norm: _, ...metrics }) => {
      let sum = 0;
      for (let index = 0; index < losses.length; index++) sum += values[at++]!;
      return { ...metrics, loss: sum / losses.length, gradientNorm: values[at++]!, tokensPerSecond };
    });
  }

  /** Drops what was not read. */
  dispose(): void {
    for (const step of this.pending) dispose(step);
    this.pending = [];
  }
}

function dispose(step: PendingStep): void {
  for (const loss of step.losses) loss.dispose();
  step.norm.dispose();
}
