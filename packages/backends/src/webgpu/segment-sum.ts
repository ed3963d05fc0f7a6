import * as tf from "@tensorflow/tfjs";
import type { KernelFunc, TensorInfo } from "@tensorflow/tfjs-core";
import type { WebGpuEngine, WebGpuLayout, WebGpuProgram } from "./tfjs-webgpu.js";

/**
 * Replaces the engine's kernel `UnsortedSegmentSum`, the gradient of every lookup. Its own adds with atomic operations,
 * in whatever order the threads come, and takes rows that belong to no segment for others.
 */
export function registerSegmentSum(layout: WebGpuLayout): void {
  if (tf.getKernel("UnsortedSegmentSum", "webgpu") !== undefined)
    tf.unregisterKernel("UnsortedSegmentSum", "webgpu");
  tf.registerKernel({
    kernelName: "UnsortedSegmentSum",
    backendName: "webgpu",
    kernelFunc: (given) => segmentSum(given, layout),
  });
}

/** Sums the rows of `x` by segment, in their order: `[rows, …]`, int32 `[rows]` → `[numSegments, …]`. */
function segmentSum({ inputs, backend, attrs }: Parameters<KernelFunc>[0], layout: WebGpuLayout): TensorInfo {
  const { x, segmentIds } = inputs as { x: TensorInfo; segmentIds: TensorInfo };
  const gpu = backend as unknown as WebGpuEngine; // the kernel is registered for this engine alone
  const shape = [Number(attrs?.numSegments), ...x.shape.slice(1)];
  const rows = x.shape[0] ?? 0;
  const size = tf.util.sizeFromShape(shape);
  if (size === 0 || rows === 0) {
    const zeros = x.dtype === "int32" ? new Int32Array(size) : new Float32Array(size);
    return gpu.makeTensorInfo(shape, x.dtype, zeros);
  }
  const uniforms = [
    { type: "int32", data: [rows] },
    { type: "int32", data: [tf.util.sizeFromShape(x.shape) / rows] },
  ];
  return gpu.runWebGPUProgram(new SegmentSum(shape, x.dtype, layout), [x, segmentIds], x.dtype, uniforms);
}

/** A thread for each element of the output goes through all rows and adds those of its segment. */
class SegmentSum implements WebGpuProgram {
  readonly variableNames = ["x", "segmentIds"];
  readonly uniforms = "rows : i32, width : i32,";
  readonly workgroupSize: [number, number, number] = [64, 1, 1];
  readonly size = true;
  readonly dispatchLayout: { x: number[] };
  readonly dispatch: [number, number, number];
  readonly shaderKey: string;

  constructor(
    readonly outputShape: number[],
    private readonly dtype: string,
    layout: WebGpuLayout,
  ) {
    this.dispatchLayout = layout.flatDispatchLayout(outputShape);
    this.dispatch = layout.computeDispatch(this.dispatchLayout, outputShape, this.workgroupSize);
    this.shaderKey = `orderedSegmentSum_${dtype}`;
  }

  getUserCode(): string {
    return `
      fn main(index : i32) {
        if (index < uniforms.size) {
          let segment = index / uniforms.width;
          let column = index % uniforms.width;
          var sum = ${this.dtype === "int32" ? "i32" : "f32"}(0);
          for (var row = 0; row < uniforms.rows; row = row + 1) {
            if (segmentIds[row] == segment) {
              sum = sum + x[row * uniforms.width + column];
            }
          }
          result[index] = sum;
        }
      }
    `;
  }
}
