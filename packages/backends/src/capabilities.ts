import type { Capability } from "./backend.js";

/** An engine without kernels of ours: attention is composed of products and a softmax, and there is float32 only. */
export const withoutHalfPrecision: readonly Capability[] = [
  { name: "attention", available: false, how: "composed of matrix products and a softmax" },
  { name: "bf16", available: false, how: "not there: fp32 only" },
];
