import {
  backend_util,
  type CropAndResizeAttrs,
  type CropAndResizeInputs,
  type RotateWithOffsetAttrs,
  type RotateWithOffsetInputs,
  type TensorInfo,
  type TransformAttrs,
  type TransformInputs,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  reshape: aten("reshape"),
  indexSelect: aten("index_select"),
  mul: aten("mul.Tensor"),
  add: aten("add.Tensor"),
};

/** Where a pixel of the result lies in image `image`, at fractions of pixels; null: nowhere in an image. */
interface Place {
  readonly image: number;
  readonly y: number;
  readonly x: number;
}

type Interpolation = "bilinear" | "nearest";

/** One of the pixels that an interpolation reads, for every pixel of the result. */
interface Tap {
  readonly pixels: Int32Array;
  readonly weights: Float32Array;
}

/** The pixels to read and their weights, and how much of the fill value each pixel of the result takes. */
class Taps {
  readonly taps: readonly Tap[];
  readonly filled: Float32Array;
  private readonly images: readonly number[];

  constructor(images: readonly number[], size: number, interpolation: Interpolation) {
    this.images = images;
    this.filled = new Float32Array(size);
    this.taps = Array.from({ length: interpolation === "nearest" ? 1 : 4 }, () => ({
      pixels: new Int32Array(size),
      weights: new Float32Array(size),
    }));
  }

  /** Places the pixel `at` of the result. A pixel beyond an image's edge counts as the fill value. */
  set(at: number, place: Place | null): void {
    if (place === null) {
      this.filled[at] = 1;
      return;
    }
    const { image, y, x } = place;
    if (this.taps.length === 1) {
      this.read(0, at, image, Math.round(y), Math.round(x), 1);
      return;
    }
    const [top, left] = [Math.floor(y), Math.floor(x)];
    const [down, right] = [y - top, x - left];
    this.read(0, at, image, top, left, (1 - down) * (1 - right));
    this.read(1, at, image, top, left + 1, (1 - down) * right);
    this.read(2, at, image, top + 1, left, down * (1 - right));
    this.read(3, at, image, top + 1, left + 1, down * right);
  }

  private read(tap: number, at: number, image: number, y: number, x: number, weight: number): void {
    const [batch = 0, height = 0, width = 0] = this.images;
    const chosen = this.taps[tap];
    const inside = image >= 0 && image < batch && y >= 0 && y < height && x >= 0 && x < width;
    if (chosen !== undefined && inside) {
      chosen.pixels[at] = (image * height + y) * width + x;
      chosen.weights[at] = weight;
    } else {
      this.filled[at] = (this.filled[at] ?? 0) + weight;
    }
  }
}

/** Reads an image's pixels where `taps` says → [pixels of the result, channels]. `fill` has a number for each channel. */
function sampled(frame: Frame, images: TensorInfo, { taps, filled }: Taps, fill: readonly number[]) {
  const [batch = 0, height = 0, width = 0, channels = 0] = images.shape;
  const pixels = frame.call(operators.reshape, frame.tensorAs(images, "float32"), [
    batch * height * width,
    channels,
  ]);
  const column = (values: Float32Array): NativeTensor =>
    frame.constant(values, [values.length, 1], "float32");
  const background = frame.call(
    operators.mul,
    column(filled),
    frame.constant(fill, [1, channels], "float32"),
  );
  if (batch * height * width === 0) return background;
  return taps.reduce((sum, { pixels: index, weights }) => {
    const picked = frame.call(
      operators.indexSelect,
      pixels,
      0,
      frame.constant(index, [index.length], "int32"),
    );
    return frame.call(operators.add, sum, frame.call(operators.mul, picked, column(weights)));
  }, background);
}

function filling(value: number, images: TensorInfo): number[] {
  return new Array<number>(images.shape[3] ?? 0).fill(value);
}

/** Where entry `at` of an axis of a crop lies, in pixels of an axis of `length`. */
function cropPlace(at: number, size: number, start: number, end: number, length: number): number {
  if (size <= 1) return 0.5 * (start + end) * (length - 1);
  return start * (length - 1) + (at * (end - start) * (length - 1)) / (size - 1);
}

const cropAndResize = kernel<CropAndResizeInputs, CropAndResizeAttrs>(
  "CropAndResize",
  (frame, { image, boxes, boxInd }, { cropSize, method, extrapolationValue }) => {
    const [, height = 0, width = 0, channels = 0] = image.shape;
    const [rows, columns] = cropSize;
    const count = boxes.shape[0] ?? 0;
    const corners = frame.backend.readSync(boxes.dataId) as Float32Array;
    const owners = frame.backend.readSync(boxInd.dataId) as Int32Array;
    const taps = new Taps(image.shape, count * rows * columns, method);
    for (let box = 0; box < count; box++) {
      const [top = 0, left = 0, bottom = 0, right = 0] = corners.subarray(4 * box, 4 * box + 4);
      for (let row = 0; row < rows; row++) {
        const y = cropPlace(row, rows, top, bottom, height);
        for (let column = 0; column < columns; column++) {
          const x = cropPlace(column, columns, left, right, width);
          const inside = y >= 0 && y <= height - 1 && x >= 0 && x <= width - 1;
          const place = inside ? { image: owners[box] ?? 0, y, x } : null;
          taps.set((box * rows + row) * columns + column, place);
        }
      }
    }
    const values = sampled(frame, image, taps, filling(extrapolationValue, image));
    return frame.output(frame.call(operators.reshape, values, [count, rows, columns, channels]), "float32");
  },
);

/** Turns images around a centre; what comes from beyond the edge is `fillValue`, opaque where there is an alpha channel. */
const rotateWithOffset = kernel<RotateWithOffsetInputs, RotateWithOffsetAttrs>(
  "RotateWithOffset",
  (frame, { image }, { radians, fillValue, center }) => {
    const [batch = 0, height = 0, width = 0, channels = 0] = image.shape;
    const [centerX, centerY] = backend_util.getImageCenter(center, height, width);
    const [sine, cosine] = [Math.sin(radians), Math.cos(radians)];
    const taps = new Taps(image.shape, batch * height * width, "nearest");
    for (let at = 0; at < batch * height * width; at++) {
      const dx = (at % width) - centerX;
      const dy = (Math.floor(at / width) % height) - centerY;
      taps.set(at, {
        image: Math.floor(at / (width * height)),
        y: dx * sine + dy * cosine + centerY,
        x: dx * cosine - dy * sine + centerX,
      });
    }
    const opaque = 255;
    const fill =
      typeof fillValue === "number"
        ? filling(fillValue, image)
        : Array.from({ length: channels }, (_, channel) => fillValue[channel] ?? opaque);
    const values = sampled(frame, image, taps, fill);
    return frame.output(frame.call(operators.reshape, values, image.shape), image.dtype);
  },
);

type FillMode = TransformAttrs["fillMode"];

/** Brings a place into [0, length − 1] as the fill mode says: `constant` leaves it beyond the edge. */
function broughtInside(place: number, length: number, mode: FillMode): number {
  const clamped = (value: number) => Math.min(Math.max(value, 0), length - 1);
  switch (mode) {
    case "nearest":
      return clamped(place);
    case "reflect": {
      // abcd repeats as dcba|abcd|dcba: a period of twice the length.
      if (length <= 1) return 0;
      const period = 2 * length;
      const within = place >= 0 ? place % period : (-place - 1 + period * 2) % period;
      return clamped(within >= length ? period - 1 - within : within);
    }
    case "wrap": {
      if (length <= 1) return 0;
      if (place < 0) return clamped(place + length * (Math.trunc(-place / (length - 1)) + 1));
      if (place > length - 1) return clamped(place - length * Math.trunc(place / (length - 1)));
      return place;
    }
    default:
      return place;
  }
}

/** A projective transform of each image: 8 numbers that take a pixel of the result to its place in the input. */
const transform = kernel<TransformInputs, TransformAttrs>(
  "Transform",
  (frame, { image, transforms }, { interpolation, fillMode, fillValue, outputShape }) => {
    const [batch = 0, height = 0, width = 0, channels = 0] = image.shape;
    const [rows, columns] = outputShape ?? [height, width];
    const numbers = frame.backend.readSync(transforms.dataId) as Float32Array;
    const taps = new Taps(image.shape, batch * rows * columns, interpolation);
    for (let index = 0; index < batch; index++) {
      const first = transforms.shape[0] === 1 ? 0 : 8 * index;
      const [a0 = 0, a1 = 0, a2 = 0, b0 = 0, b1 = 0, b2 = 0, c0 = 0, c1 = 0] = numbers.subarray(
        first,
        first + 8,
      );
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const depth = c0 * column + c1 * row + 1;
          const place = {
            image: index,
            y: broughtInside((b0 * column + b1 * row + b2) / depth, height, fillMode),
            x: broughtInside((a0 * column + a1 * row + a2) / depth, width, fillMode),
          };
          taps.set((index * rows + row) * columns + column, depth === 0 ? null : place);
        }
      }
    }
    const values = sampled(frame, image, taps, filling(fillValue, image));
    return frame.output(frame.call(operators.reshape, values, [batch, rows, columns, channels]), image.dtype);
  },
);

/** Images read at other places than their pixels' own. */
export const samplingKernels: readonly Kernel[] = [cropAndResize, rotateWithOffset, transform];
