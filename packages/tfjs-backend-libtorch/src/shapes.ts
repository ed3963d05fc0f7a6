/**
 * A second backend beside the loaded one, `libtorch-shapes`, on PyTorch's device `meta`: kernels run as on a GPU, every
 * operator's arguments are converted by its schema and its result's shape and dtype computed, but no element is. So the
 * branches that a GPU takes are gone through on any machine.
 */
import { registerBackend, registerKernel } from "@tensorflow/tfjs";
import type { Addon, AtenArgument, AtenResult, NativeTensor, NativeType } from "./addon.js";
import { type AtenOperator, aten, ownOperator } from "./aten.js";
import { LibtorchBackend } from "./backend.js";
import { toKernelConfig } from "./kernel.js";
import { kernels } from "./kernels/index.js";

/** The name under which TensorFlow.js knows the backend. */
export const SHAPES_BACKEND_NAME = "libtorch-shapes";

const empty = aten("empty.memory_format");
const newEmpty = aten("new_empty");
const hasKernel = ownOperator("has_kernel");

/** Results of operators for which PyTorch has no shape function in C++, only one in Python. */
const standIns: Readonly<
  Record<string, (backend: ShapesBackend, values: readonly AtenArgument[]) => AtenResult>
> = {
  "aten::_fused_adamw_": () => [],
  "aten::relu": (backend, [x]) => backend.like(x as NativeTensor),
  "aten::flip": (backend, [x]) => backend.like(x as NativeTensor),
  "aten::isnan": (backend, [x]) => backend.empty(backend.shapeOf(x as NativeTensor), "bool"),
  // condition, x, y: used with operands of one shape
  "aten::where": (backend, [, x]) => backend.like(x as NativeTensor),
  // x, axes, keepDimension
  "aten::logsumexp": (backend, [x, axes]) => {
    const shape = backend.shapeOf(x as NativeTensor);
    const reduced = (axes as number[]).map((axis) => (axis + shape.length) % shape.length);
    return backend.like(
      x as NativeTensor,
      shape.filter((_, axis) => !reduced.includes(axis)),
    );
  },
  // x, axis, indices [count]
  "aten::index_select": (backend, [x, axis, indices]) => {
    const shape = backend.shapeOf(x as NativeTensor);
    const [count = 0] = backend.shapeOf(indices as NativeTensor);
    return backend.like(
      x as NativeTensor,
      shape.map((size, at) => (at === axis ? count : size)),
    );
  },
  // dy [rows, hidden], indices [rows], vocabulary → [vocabulary, hidden]
  "aten::embedding_dense_backward": (backend, [dy, , vocabulary]) =>
    backend.like(dy as NativeTensor, [vocabulary as number, backend.shapeOf(dy as NativeTensor).at(-1) ?? 0]),
  // x [rows, hidden], ... → [y, mean [rows, 1], rstd [rows, 1]]
  "aten::native_layer_norm": (backend, [x]) => {
    const [rows = 0] = backend.shapeOf(x as NativeTensor);
    return [
      backend.like(x as NativeTensor),
      backend.empty([rows, 1], "float32"),
      backend.empty([rows, 1], "float32"),
    ];
  },
  // dy, x, shape, mean, rstd, scale, bias, ... → [dx, dScale, dBias]
  "aten::native_layer_norm_backward": (backend, [, x, , , , scale, bias]) =>
    [x, scale, bias].map((tensor) => backend.like(tensor as NativeTensor)),
  "espalier::packed_attention": packedAttentionResults,
  "espalier::packed_attention_backward": (backend, [, packed]) => backend.like(packed as NativeTensor),
  // query, key, value, ... → [output, logsumexp, ...]; every tensor [batch, heads, seq, headSize]
  "aten::_scaled_dot_product_flash_attention": attentionResults,
  "aten::_scaled_dot_product_efficient_attention": attentionResults,
  "aten::_scaled_dot_product_cudnn_attention": attentionResults,
  // dy, query, key, value, ... → [dQuery, dKey, dValue]
  "aten::_scaled_dot_product_flash_attention_backward": attentionGradients,
  "aten::_scaled_dot_product_efficient_attention_backward": attentionGradients,
  "aten::_scaled_dot_product_cudnn_attention_backward": attentionGradients,
};

function attentionResults(backend: ShapesBackend, [query]: readonly AtenArgument[]): AtenResult {
  const [batch = 0, heads = 0, sequence = 0] = backend.shapeOf(query as NativeTensor);
  const none = () => backend.empty([], "int64");
  return [
    backend.like(query as NativeTensor),
    backend.empty([batch, heads, sequence], "float32"),
    ...Array.from({ length: 7 }, none),
  ];
}

function attentionGradients(
  backend: ShapesBackend,
  [, query, key, value]: readonly AtenArgument[],
): AtenResult {
  return [query, key, value].map((tensor) => backend.like(tensor as NativeTensor));
}

/** packed [batch · seq, 3 · heads · channels], mask, heads, seq, ... → [y, logsumexp [batch, heads, seq], ...] */
function packedAttentionResults(
  backend: ShapesBackend,
  [packed, , heads, sequence]: readonly AtenArgument[],
): AtenResult {
  const [rows = 0, width = 0] = backend.shapeOf(packed as NativeTensor);
  const logsumexp = [rows / (sequence as number), heads as number, sequence as number];
  return [
    backend.like(packed as NativeTensor, [rows, width / 3]),
    backend.empty(logsumexp, "float32"),
    null,
    null,
  ];
}

class ShapesBackend extends LibtorchBackend {
  constructor(addon: Addon) {
    super(addon, "meta");
  }

  override call(operator: AtenOperator, values: readonly AtenArgument[]): AtenResult {
    const standIn = standIns[operator.name];
    if (standIn === undefined) return super.call(operator, values);
    try {
      return super.call(operator, values);
    } catch (error) {
      // The arguments were converted by the schema before; a mistake among them is another error.
      if (error instanceof Error && /'Meta' backend|no fake impl or Meta kernel/.test(error.message)) {
        return standIn(this, values);
      }
      throw error;
    }
  }

  empty(shape: readonly number[], dtype: NativeType): NativeTensor {
    return this.call(empty, [shape, dtype, undefined, this.device]) as NativeTensor;
  }

  /** A tensor of the same dtype. */
  like(tensor: NativeTensor, shape: readonly number[] = this.shapeOf(tensor)): NativeTensor {
    return this.call(newEmpty, [tensor, shape]) as NativeTensor;
  }

  shapeOf(tensor: NativeTensor): number[] {
    return this.addon.describe(tensor).slice(0, -1);
  }
}

/** Registers the backend {@link SHAPES_BACKEND_NAME}. Its tensors have no values: reading one raises an error. */
export function registerShapes(addon: Addon): void {
  for (const kernel of kernels) registerKernel(toKernelConfig(kernel, SHAPES_BACKEND_NAME));
  registerBackend(SHAPES_BACKEND_NAME, () => new ShapesBackend(addon), 0);
}

/** Whether an operator has a kernel for a device, `CPU`, `CUDA` or `Meta`, of its own or composed of others. */
export function hasKernelFor(addon: Addon, operator: AtenOperator, device: string): boolean {
  return addon.call(hasKernel.indexIn(addon), [operator.name, operator.overload, device]) as boolean;
}
