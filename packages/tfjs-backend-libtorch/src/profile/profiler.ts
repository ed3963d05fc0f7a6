import type { Addon, NativeRecording, NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import type { MatrixProduct } from "./products.js";
import { decodeRecording, type Recording, type RecordingDetail } from "./recording.js";

const NONE = -1;
const DETAIL = { timing: 1, tracing: 2 } as const;

const operators = {
  mm: aten("mm"),
  bmm: aten("bmm"),
  randn: aten("randn"),
  to: aten("to.dtype"),
  transpose: aten("transpose.int"),
};

/** Enough runs for a median that one interruption does not move. */
const RUNS = 9;
const WARMUP_RUNS = 2;

/** Records what a piece of work does in libtorch. While nothing is recorded it costs nothing. */
export class Profiler {
  private labels: string[] = [];
  private readonly labelOf = new Map<string, number>();
  private kernel = NONE;
  private isRecording = false;

  constructor(
    private readonly addon: Addon,
    private readonly device: string,
  ) {}

  /**
   * Runs a function and tells what it did in libtorch. On a GPU `timing` waits for the device after each operator.
   *
   * @throws what the function throws; and when a recording is on already
   */
  record(detail: RecordingDetail, query: () => void): Recording {
    if (this.isRecording) throw new Error("libtorch: a recording is on already");
    this.labels = [];
    this.labelOf.clear();
    this.kernel = NONE;
    this.isRecording = true;
    this.addon.startRecording(DETAIL[detail]);
    let noted: NativeRecording;
    try {
      query();
    } finally {
      this.isRecording = false;
      noted = this.addon.stopRecording();
    }
    return decodeRecording(noted, this.labels, this.device !== "cpu");
  }

  /** Names the part of the work that begins here. */
  phase(name: string): void {
    if (this.isRecording) this.addon.recordPhase(this.label(name));
  }

  /** A kernel begins. Give the result to {@link leave}. */
  enter(kernel: string): number {
    if (!this.isRecording) return NONE;
    const outer = this.kernel;
    this.kernel = this.label(kernel);
    this.addon.recordKernel(this.kernel);
    return outer;
  }

  /** A kernel ends, and the one around it, if any, goes on. */
  leave(outer: number): void {
    if (!this.isRecording) return;
    this.kernel = outer;
    this.addon.recordKernel(outer);
  }

  /**
   * Times a product by itself, on random numbers in the same layout.
   *
   * @returns seconds, the median of several runs
   */
  productSeconds(product: MatrixProduct): number {
    const owned: NativeTensor[] = [];
    const call = (operator: { indexIn(addon: Addon): number }, values: Parameters<Addon["call"]>[1]) => {
      const tensor = this.addon.call(operator.indexIn(this.addon), values) as NativeTensor;
      owned.push(tensor);
      return tensor;
    };
    const { batch, m, k, n, dtype, transposeA, transposeB } = product;
    const operand = (rows: number, columns: number, isTransposed: boolean) => {
      const shape = isTransposed ? [columns, rows] : [rows, columns];
      const drawn = call(operators.randn, [
        batch === 1 ? shape : [batch, ...shape],
        "float32",
        undefined,
        this.device,
      ]);
      const typed = call(operators.to, [drawn, dtype]);
      return isTransposed ? call(operators.transpose, [typed, -2, -1]) : typed;
    };
    try {
      const a = operand(m, k, transposeA);
      const b = operand(k, n, transposeB);
      const times: number[] = [];
      for (let run = 0; run < WARMUP_RUNS + RUNS; run++) {
        // Timing waits for the device.
        const recording = this.record("timing", () => {
          call(batch === 1 ? operators.mm : operators.bmm, [a, b]);
        });
        this.addon.free(owned.pop() as NativeTensor);
        if (run >= WARMUP_RUNS) times.push(recording.nativeMilliseconds / 1000);
      }
      times.sort((x, y) => x - y);
      return times[RUNS >> 1] ?? Number.NaN;
    } finally {
      for (const tensor of owned) this.addon.free(tensor);
    }
  }

  private label(name: string): number {
    const known = this.labelOf.get(name);
    if (known !== undefined) return known;
    this.labels.push(name);
    this.labelOf.set(name, this.labels.length - 1);
    return this.labels.length - 1;
  }
}
