import type {
  ResizeBilinearAttrs,
  ResizeBilinearGradInputs,
  ResizeBilinearInputs,
  ResizeNearestNeighborAttrs,
  ResizeNearestNeighborGradInputs,
  ResizeNearestNeighborInputs,
  TensorInfo,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  indexSelect: aten("index_select"),
  indexAdd: aten("index_add"),
  lerp: aten("lerp.Tensor"),
  mul: aten("mul.Tensor"),
  sub: aten("sub.Tensor"),
  full: aten("full"),
};

/** The two axes of an image [batch, height, width, channels]. */
const AXES = [1, 2] as const;

/** Where the entries of a resized axis come from: between `low` and `high`, `fraction` of the way. */
interface Sources {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly fraction: Float32Array;
}

type Geometry = Pick<ResizeBilinearAttrs, "alignCorners" | "halfPixelCenters">;

/** How far apart in the source two neighbours of the result are. */
function ratio(from: number, to: number, alignCorners: boolean): number {
  return alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to;
}

function linearSources(from: number, to: number, { alignCorners, halfPixelCenters }: Geometry): Sources {
  const step = ratio(from, to, alignCorners);
  const low = new Int32Array(to);
  const high = new Int32Array(to);
  const fraction = new Float32Array(to);
  for (let at = 0; at < to; at++) {
    const place = halfPixelCenters ? step * (at + 0.5) - 0.5 : step * at;
    const start = Math.min(Math.max(0, Math.floor(place)), from - 1);
    low[at] = start;
    high[at] = Math.max(0, Math.min(from - 1, Math.ceil(place)));
    fraction[at] = place - start;
  }
  return { low, high, fraction };
}

function nearestSources(from: number, to: number, { alignCorners, halfPixelCenters }: Geometry): Int32Array {
  const step = ratio(from, to, alignCorners);
  return Int32Array.from({ length: to }, (_, at) => {
    const place = step * (halfPixelCenters ? at + 0.5 : at);
    return Math.max(0, Math.min(from - 1, alignCorners ? Math.round(place) : Math.floor(place)));
  });
}

function indices(frame: Frame, values: Int32Array): NativeTensor {
  return frame.constant(values, [values.length], "int32");
}

/** Fractions that broadcast along an axis of an image. */
function fractions(frame: Frame, { fraction }: Sources, axis: number): NativeTensor {
  return frame.constant(fraction, axis === 1 ? [fraction.length, 1, 1] : [fraction.length, 1], "float32");
}

function zeros(frame: Frame, shape: readonly number[]): NativeTensor {
  return frame.call(operators.full, shape, 0, "float32", undefined, frame.backend.device);
}

const resizeBilinear = kernel<ResizeBilinearInputs, ResizeBilinearAttrs>(
  "ResizeBilinear",
  (frame, { images }, { size, ...geometry }) => {
    let result = frame.tensorAs(images, "float32");
    for (const axis of AXES) {
      const sources = linearSources(images.shape[axis] ?? 0, size[axis - 1] ?? 0, geometry);
      const low = frame.call(operators.indexSelect, result, axis, indices(frame, sources.low));
      const high = frame.call(operators.indexSelect, result, axis, indices(frame, sources.high));
      result = frame.call(operators.lerp, low, high, fractions(frame, sources, axis));
    }
    return frame.output(result, "float32");
  },
);

/** The adjoint of the interpolation, axis by axis. */
const resizeBilinearGrad = kernel<ResizeBilinearGradInputs, ResizeBilinearAttrs>(
  "ResizeBilinearGrad",
  (frame, { images, dy }, geometry) => {
    const shape = [...dy.shape];
    let gradient = frame.tensorAs(dy, "float32");
    for (const axis of [...AXES].reverse()) {
      const sources = linearSources(images.shape[axis] ?? 0, dy.shape[axis] ?? 0, geometry);
      const toHigh = frame.call(operators.mul, gradient, fractions(frame, sources, axis));
      const toLow = frame.call(operators.sub, gradient, toHigh);
      shape[axis] = images.shape[axis] ?? 0;
      const lower = frame.call(
        operators.indexAdd,
        zeros(frame, shape),
        axis,
        indices(frame, sources.low),
        toLow,
      );
      gradient = frame.call(operators.indexAdd, lower, axis, indices(frame, sources.high), toHigh);
    }
    return frame.output(gradient, "float32");
  },
);

const resizeNearest = kernel<ResizeNearestNeighborInputs, ResizeNearestNeighborAttrs>(
  "ResizeNearestNeighbor",
  (frame, { images }, { size, ...geometry }) => {
    let result = frame.tensor(images);
    for (const axis of AXES) {
      const sources = nearestSources(images.shape[axis] ?? 0, size[axis - 1] ?? 0, geometry);
      result = frame.call(operators.indexSelect, result, axis, indices(frame, sources));
    }
    return frame.output(result, images.dtype);
  },
);

const resizeNearestGrad = kernel<ResizeNearestNeighborGradInputs, ResizeNearestNeighborAttrs>(
  "ResizeNearestNeighborGrad",
  (frame, { images, dy }: { images: TensorInfo; dy: TensorInfo }, geometry) => {
    const shape = [...dy.shape];
    let gradient = frame.tensorAs(dy, "float32");
    for (const axis of [...AXES].reverse()) {
      const sources = nearestSources(images.shape[axis] ?? 0, dy.shape[axis] ?? 0, geometry);
      shape[axis] = images.shape[axis] ?? 0;
      gradient = frame.call(operators.indexAdd, zeros(frame, shape), axis, indices(frame, sources), gradient);
    }
    return frame.output(gradient, "float32");
  },
);

/** Images of another size, with the gradients of that. */
export const resizingKernels: readonly Kernel[] = [
  resizeBilinear,
  resizeBilinearGrad,
  resizeNearest,
  resizeNearestGrad,
];
