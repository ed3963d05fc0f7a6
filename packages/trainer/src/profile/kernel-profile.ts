import * as tf from "@tensorflow/tfjs";
import type { KernelRow, StepProfile } from "./step-profile.js";

/**
 * Where an engine has no profiler of its own: kernels and their times, as TensorFlow.js's own profile tells them. There
 * are no operators beneath them, no floor, and the engine may compute later than its kernel returns.
 */
export async function profileKernels(runStep: () => void): Promise<StepProfile> {
  const flag = "CHECK_COMPUTATION_FOR_ERRORS";
  const checks = tf.env().getBool(flag);
  // It would read every result back.
  tf.env().set(flag, false);
  let milliseconds = 0;
  try {
    const { kernels } = await tf.profile(() => {
      const began = performance.now();
      runStep();
      milliseconds = performance.now() - began;
      return [];
    });
    const rows = new Map<string, KernelRow>();
    let nativeMilliseconds = 0;
    let peakBytes = 0;
    for (const kernel of kernels) {
      const time = await kernel.kernelTimeMs;
      const took = typeof time === "number" ? time : 0;
      nativeMilliseconds += took;
      peakBytes = Math.max(peakBytes, kernel.totalBytesSnapshot);
      const before = rows.get(kernel.name);
      const spent = (before?.milliseconds ?? 0) + took;
      rows.set(kernel.name, {
        name: kernel.name,
        count: (before?.count ?? 0) + 1,
        milliseconds: spent,
        share: spent / milliseconds,
        bytesRead: 0,
        bytesMade: (before?.bytesMade ?? 0) + Math.max(0, kernel.bytesAdded),
        javascript: 0,
        operators: [],
      });
    }
    const javascript = milliseconds - nativeMilliseconds;
    return {
      steps: 1,
      milliseconds,
      nativeMilliseconds,
      javascript: {
        milliseconds: javascript,
        share: javascript / milliseconds,
        withinKernels: 0,
        betweenKernels: javascript,
        conversion: 0,
      },
      phases: [],
      kernels: [...rows.values()].sort((a, b) => b.milliseconds - a.milliseconds),
      operators: [],
      products: [],
      floor: null,
      memory: { peakBytes, kernel: null, operator: "", phase: null },
      waits: [],
    };
  } finally {
    tf.env().set(flag, checks);
  }
}
