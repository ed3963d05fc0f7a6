import type { NestedCall, RecordedArgument, RecordedTensor } from "./recording.js";

/** A product of matrices `[m, k] · [k, n]`, `batch` times. */
export interface MatrixProduct {
  readonly batch: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly dtype: "float32" | "bfloat16" | "float16" | "float64";
  /** Whether the first operand lies in memory column after column. */
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

/** The matrix products that one call computes. */
export interface OperatorProducts {
  /** 2·m·k·n of each; attention's counts as two products forward, four backward. */
  readonly flops: number;
  /** The products that are an operator's own. */
  readonly products: readonly MatrixProduct[];
}

const NONE: OperatorProducts = { flops: 0, products: [] };

/** ATen's numbers of the element types that products are computed in. */
const DTYPES: Readonly<Record<number, MatrixProduct["dtype"]>> = {
  5: "float16",
  6: "float32",
  7: "float64",
  15: "bfloat16",
};

/** Where an operator has its two factors among its arguments. */
const FACTORS: Readonly<Record<string, readonly [number, number]>> = {
  "aten::mm": [0, 1],
  "aten::bmm": [0, 1],
  "aten::addmm": [1, 2],
  "aten::addmm_": [1, 2],
  "aten::baddbmm": [1, 2],
  "aten::baddbmm_": [1, 2],
  "aten::_addmm_activation": [1, 2],
};

/** Forward: q·kᵀ and probabilities·v; backward counts twice that, by the convention of the cost model. */
const FORWARD = 2;
const BACKWARD = 4;

/** Attention over q [batch, heads, seq, size], and where q and k are among the arguments. */
const ATTENTION: Readonly<Record<string, readonly [q: number, k: number, products: number]>> = {
  "aten::_scaled_dot_product_flash_attention_for_cpu": [0, 1, FORWARD],
  "aten::_scaled_dot_product_flash_attention_for_cpu_backward": [1, 2, BACKWARD],
  "aten::_scaled_dot_product_flash_attention": [0, 1, FORWARD],
  "aten::_scaled_dot_product_flash_attention_backward": [1, 2, BACKWARD],
  "aten::_scaled_dot_product_efficient_attention": [0, 1, FORWARD],
  "aten::_scaled_dot_product_efficient_attention_backward": [1, 2, BACKWARD],
  "aten::_scaled_dot_product_cudnn_attention": [0, 1, FORWARD],
  "aten::_scaled_dot_product_cudnn_attention_backward": [1, 2, BACKWARD],
};

/** Attention over packed [batch · seq, 3 · hidden], and where it and the length are among the arguments. */
const PACKED_ATTENTION: Readonly<
  Record<string, readonly [packed: number, sequence: number, products: number]>
> = {
  "espalier::packed_attention": [0, 3, FORWARD],
  "espalier::packed_attention_backward": [1, 6, BACKWARD],
};

/**
 * The matrix products of a call: its own where it is known to be one, else those that it calls within, where they were
 * traced.
 */
export function productsOf(
  call: { readonly operator: string; readonly values: readonly RecordedArgument[] },
  nested: readonly NestedCall[],
): OperatorProducts {
  const own = ownProducts(call.operator, call.values);
  if (own !== null) return own;
  let flops = 0;
  const products: MatrixProduct[] = [];
  // What is within an operator that was counted is that operator's own work.
  let countedAt = Number.POSITIVE_INFINITY;
  for (const { operator, depth, values } of nested) {
    if (depth > countedAt) continue;
    const found = ownProducts(operator, values);
    countedAt = found === null ? Number.POSITIVE_INFINITY : depth;
    if (found === null) continue;
    flops += found.flops;
    products.push(...found.products);
  }
  return flops === 0 ? NONE : { flops, products };
}

/** What an operator computes by itself, or null where it is none of those that are known. */
function ownProducts(operator: string, values: readonly RecordedArgument[]): OperatorProducts | null {
  // Overloads compute the same: `aten::addmm.out` is `aten::addmm`.
  const name = operator.split(".")[0] ?? operator;
  const factors = FACTORS[name];
  if (factors !== undefined) return ofFactors(tensor(values, factors[0]), tensor(values, factors[1]));
  const attention = ATTENTION[name];
  if (attention !== undefined) {
    const [q, k] = [tensor(values, attention[0]), tensor(values, attention[1])];
    if (q === null || k === null) return null;
    return { flops: attention[2] * 2 * elements(q) * (k.shape.at(-2) ?? 0), products: [] };
  }
  const packed = PACKED_ATTENTION[name];
  if (packed !== undefined) {
    const [input, sequence] = [tensor(values, packed[0]), values[packed[1]]];
    if (input === null || typeof sequence !== "number") return null;
    return { flops: (packed[2] * 2 * elements(input) * sequence) / 3, products: [] };
  }
  return null;
}

function ofFactors(a: RecordedTensor | null, b: RecordedTensor | null): OperatorProducts | null {
  if (a === null || b === null) return null;
  const [m = 0, k = 0] = a.shape.slice(-2);
  const n = b.shape.at(-1) ?? 0;
  const batch = a.shape.length === 3 ? (a.shape[0] ?? 0) : 1;
  const dtype = DTYPES[a.dtype];
  const flops = 2 * batch * m * k * n;
  if (dtype === undefined || flops === 0) return { flops, products: [] };
  const product = { batch, m, k, n, dtype, transposeA: isTransposed(a), transposeB: isTransposed(b) };
  return { flops, products: [product] };
}

function isTransposed({ shape, strides }: RecordedTensor): boolean {
  return strides.at(-1) !== 1 && shape.at(-1) !== 1 && strides.at(-2) === 1;
}

function tensor(values: readonly RecordedArgument[], index: number): RecordedTensor | null {
  const value = values[index];
  return typeof value === "object" ? value : null;
}

function elements({ shape }: RecordedTensor): number {
  return shape.reduce((product, size) => product * size, 1);
}
