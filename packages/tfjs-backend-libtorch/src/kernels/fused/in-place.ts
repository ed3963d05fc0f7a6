import { engine, type Tensor, type TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten } from "../../aten.js";
import type { Frame } from "../../kernel.js";

const contiguousClone = aten("clone");
/** ATen's number for "row after row", whatever the strides were. */
const CONTIGUOUS_FORMAT = 0;

/**
 * The native tensor of an input that a kernel is about to change in place.
 *
 * TensorFlow.js's tensors never change, so memory may be shared freely: by a clone or a reshape (the same data id) and
 * by views such as slices (other data ids). Whoever shares must not see the change: the input then gets memory of its
 * own first, and the others keep the old one.
 *
 * @returns a contiguous tensor that is the input's alone, in the input's shape
 */
export function exclusive(frame: Frame, input: TensorInfo): NativeTensor {
  const { backend } = frame;
  if (backend.refCount(input.dataId) > 1) separateDataId(frame, input as Tensor);
  const { tensor } = backend.stored(input.dataId);
  if (tensor === null) throw new Error(`${frame.kernelName}: string tensors are not supported`);
  if (backend.addon.storageHandles(tensor) > 1 || !backend.addon.isContiguous(tensor)) {
    const own = frame.call(contiguousClone, tensor, CONTIGUOUS_FORMAT);
    backend.replace(input.dataId, frame.release(own));
  }
  backend.forgetHalf(input.dataId);
  return frame.tensor(input);
}

/** Gives a tensor a data id of its own, by exchanging it with a fresh copy's, which then disposes of the old one. */
function separateDataId(frame: Frame, tensor: Tensor): void {
  const copied = frame.call(contiguousClone, frame.tensor(tensor), CONTIGUOUS_FORMAT);
  const fresh = engine().makeTensorFromTensorInfo(frame.output(copied, tensor.dtype), frame.backend);
  const shared = tensor.dataId;
  tensor.dataId = fresh.dataId;
  fresh.dataId = shared;
  fresh.dispose();
}
