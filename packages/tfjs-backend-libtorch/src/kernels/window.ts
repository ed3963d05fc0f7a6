import type { backend_util } from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import type { Frame } from "../kernel.js";

type Conv2DInfo = backend_util.Conv2DInfo;
type Conv3DInfo = backend_util.Conv3DInfo;

const operators = {
  permute: aten("permute"),
  pad: aten("constant_pad_nd"),
  full: aten("full"),
};

/** How the window of a convolution or a pooling moves over the spatial axes; each list has a number for each of them. */
export interface Window {
  readonly size: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** The padding at the start of each axis. */
  readonly before: readonly number[];
  /** Lengths of the spatial axes. */
  readonly input: readonly number[];
  readonly output: readonly number[];
}

/** The window of a two-dimensional operation, from what TensorFlow.js computes of its attributes. */
export function window2d(info: Conv2DInfo): Window {
  return {
    size: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    dilations: [info.dilationHeight, info.dilationWidth],
    before: [info.padInfo.top, info.padInfo.left],
    input: [info.inHeight, info.inWidth],
    output: [info.outHeight, info.outWidth],
  };
}

/** The window of a three-dimensional operation. */
export function window3d(info: Conv3DInfo): Window {
  return {
    size: [info.filterDepth, info.filterHeight, info.filterWidth],
    strides: [info.strideDepth, info.strideHeight, info.strideWidth],
    dilations: [info.dilationDepth, info.dilationHeight, info.dilationWidth],
    before: [info.padInfo.front, info.padInfo.top, info.padInfo.left],
    input: [info.inDepth, info.inHeight, info.inWidth],
    output: [info.outDepth, info.outHeight, info.outWidth],
  };
}

/** Whether the window fits nowhere, so that there is nothing to compute. */
export function isEmpty(window: Window): boolean {
  return window.output.some((length) => length <= 0);
}

/** Zeros in a shape as TensorFlow.js has it. */
export function zeros(frame: Frame, shape: readonly number[]): NativeTensor {
  return frame.call(operators.full, shape, 0, "float32", undefined, frame.backend.device);
}

/** How far a window reaches along an axis, gaps of its dilation included. */
export function reach(window: Window, axis: number): number {
  return ((window.size[axis] ?? 1) - 1) * (window.dilations[axis] ?? 1) + 1;
}

/** Padding as ATen takes it. */
export interface Padding {
  /** What the operator itself pads on both sides of each axis. */
  readonly both: readonly number[];
  /** [before, after] of each axis to pad in advance, or null. Negative numbers cut off. */
  readonly advance: readonly (readonly [number, number])[] | null;
}

/**
 * ATen pads both sides alike. That serves TensorFlow.js's uneven padding, too, where it gives as many positions: those
 * are counted from the start. Elsewhere the input is padded in advance to exactly what the positions need.
 *
 * @param limit - whether the operator takes no more than half of the window as padding, as poolings do
 */
export function paddingOf(window: Window, limit = false): Padding {
  const { before, input, output, strides, size } = window;
  const even = before.every((start, axis) => {
    const room = (input[axis] ?? 0) + 2 * start - reach(window, axis);
    const positions = Math.floor(room / (strides[axis] ?? 1)) + 1;
    return positions === output[axis] && start >= 0 && (!limit || 2 * start <= (size[axis] ?? 1));
  });
  if (even) return { both: before, advance: null };
  const advance = before.map((start, axis) => {
    const needed = ((output[axis] ?? 0) - 1) * (strides[axis] ?? 1) + reach(window, axis);
    return [start, needed - (input[axis] ?? 0) - start] as const;
  });
  return { both: before.map(() => 0), advance };
}

/** Pads the trailing spatial axes of [batch, channels, ...spatial]. */
export function padded(
  frame: Frame,
  x: NativeTensor,
  advance: Padding["advance"],
  value: number,
): NativeTensor {
  return advance === null ? x : frame.call(operators.pad, x, [...advance].reverse().flat(), value);
}

/** Takes the padding away again, as the gradient needs it. */
export function unpadded(frame: Frame, x: NativeTensor, advance: Padding["advance"]): NativeTensor {
  const opposite = advance?.map(([start, end]) => [-start, -end] as const) ?? null;
  return padded(frame, x, opposite, 0);
}

/** [batch, ...spatial, channels] as [batch, channels, ...spatial]: a view. */
export function channelsFirst(frame: Frame, x: NativeTensor, spatial: number): NativeTensor {
  const axes = Array.from({ length: spatial }, (_, axis) => axis + 1);
  return frame.call(operators.permute, x, [0, spatial + 1, ...axes]);
}

/** [batch, channels, ...spatial] as [batch, ...spatial, channels]: a view. */
export function channelsLast(frame: Frame, x: NativeTensor, spatial: number): NativeTensor {
  const axes = Array.from({ length: spatial }, (_, axis) => axis + 2);
  return frame.call(operators.permute, x, [0, ...axes, 1]);
}

/** Shapes that do not belong together are refused here, by name, rather than within ATen. */
export function assertShape(
  kernelName: string,
  what: string,
  given: readonly number[],
  expected: readonly number[],
) {
  if (given.length !== expected.length || given.some((length, axis) => length !== expected[axis])) {
    throw new Error(`${kernelName}: ${what} has the shape [${given}], expected [${expected}]`);
  }
}
