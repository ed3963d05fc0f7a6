import { type DiagInputs, type FFTInputs, type TensorInfo, util } from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Kernel, kernel } from "../kernel.js";

const operators = {
  add: aten("add.Tensor"),
  diag: aten("diag"),
  reshape: aten("reshape"),
  fourier: aten("_fft_c2c"),
};

const addN = kernel<TensorInfo[]>("AddN", (frame, inputs) => {
  const [first] = inputs as [TensorInfo];
  const sum = inputs
    .map((input) => frame.tensor(input))
    .reduce((total: NativeTensor, term) => frame.call(operators.add, total, term));
  return frame.output(sum, first.dtype);
});

const diag = kernel<DiagInputs>("Diag", (frame, { x }) => {
  const flat = frame.call(operators.reshape, frame.tensor(x), [util.sizeFromShape(x.shape)]);
  const square = frame.call(operators.diag, flat);
  return frame.output(frame.call(operators.reshape, square, [...x.shape, ...x.shape]), x.dtype);
});

/** ATen's numbers for the scaling of a Fourier transform: none, or by 1/n. */
const UNSCALED = 0;
const BY_LENGTH = 2;

function fourier(name: string, forward: boolean): Kernel {
  return kernel<FFTInputs>(name, (frame, { input }) => {
    const last = input.shape.length - 1;
    const scaling = forward ? UNSCALED : BY_LENGTH;
    const result = frame.call(operators.fourier, frame.tensor(input), [last], scaling, forward);
    return frame.output(result, "complex64");
  });
}

/** Sums of many tensors, diagonal matrices, Fourier transforms along the last axis. */
export const linearAlgebraKernels: readonly Kernel[] = [
  addN,
  diag,
  fourier("FFT", true),
  fourier("IFFT", false),
];
