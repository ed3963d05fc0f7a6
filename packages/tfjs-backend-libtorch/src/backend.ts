import {
  type backend_util,
  DataStorage,
  type DataType,
  engine,
  KernelBackend,
  type TensorInfo,
  util,
} from "@tensorflow/tfjs";
import type { Addon, AtenArgument, AtenResult, NativeTensor } from "./addon.js";
import type { AtenOperator } from "./aten.js";
import { aten } from "./aten.js";
import { arrayFor, BFLOAT16, FLOAT32, isStoredAs, nativeType, toNativeArray } from "./dtypes.js";
import { Profiler } from "./profile/profiler.js";

type BackendValues = backend_util.BackendValues;
type DataId = TensorInfo["dataId"];

/** What a data id stands for: a tensor of libtorch, or, for strings, the encoded strings themselves. */
interface StoredData {
  tensor: NativeTensor | null;
  strings: Uint8Array[] | null;
  /** A copy of `tensor` in bfloat16, row after row, once one was wanted. */
  half: NativeTensor | null;
  /** The shape of `tensor`. A reshaped tensor shares the data id, so a caller's shape may be another one. */
  shape: readonly number[];
  dtype: DataType;
  refCount: number;
}

const toType = aten("to.dtype");
/** ATen's number for "row after row, whatever the strides were". */
const CONTIGUOUS_FORMAT = 0;

/**
 * The TensorFlow.js backend `libtorch`: owns the tensors and calls ATen. Its kernels are in `kernels/`.
 *
 * Tensors live where `device` says, in whatever strides the last operator left them.
 */
export class LibtorchBackend extends KernelBackend {
  private readonly data: DataStorage<StoredData>;
  /** What linear layers and attention can compute in. */
  readonly precisions: readonly string[] = ["fp32", "bf16"];
  /** Every native tensor behind a data id, so that `dispose` can free those that nobody disposed of. */
  private readonly live = new Set<NativeTensor>();
  /** Tells where the time of a piece of work goes. */
  readonly profiler: Profiler;

  constructor(
    readonly addon: Addon,
    /** `cpu`, `cuda:0`, ... */
    readonly device: string,
  ) {
    super();
    this.profiler = new Profiler(addon, device);
    this.data = new DataStorage<StoredData>(this, engine());
  }

  /** Calls an ATen operator. Whoever calls frees the tensors that come back. */
  call(operator: AtenOperator, values: readonly AtenArgument[]): AtenResult {
    return this.addon.call(operator.indexIn(this.addon), values);
  }

  /** Makes a tensor's data id the owner of a native tensor, cast if its element type does not fit the dtype. */
  adopt(tensor: NativeTensor, dtype: DataType): TensorInfo {
    const described = this.addon.describe(tensor);
    const code = described.pop() as number;
    const type = nativeType(dtype);
    let owned = tensor;
    if (!isStoredAs(code, type)) {
      try {
        owned = this.call(toType, [tensor, type]) as NativeTensor;
      } finally {
        this.addon.free(tensor);
      }
    }
    const dataId = {};
    this.live.add(owned);
    this.data.set(dataId, { tensor: owned, strings: null, half: null, shape: described, dtype, refCount: 1 });
    return { dataId, shape: described, dtype };
  }

  /**
   * The native tensor behind a data id, in its own shape. Data of another backend is moved here.
   *
   * @throws when the tensor was disposed
   */
  stored(dataId: DataId): Readonly<StoredData> {
    if (this.data.has(dataId)) return this.data.get(dataId);
    try {
      return this.data.get(dataId);
    } catch (cause) {
      // The engine looks the owner of the data up without asking whether it still has one.
      if (cause instanceof TypeError) throw new Error("libtorch: the tensor was disposed", { cause });
      throw cause;
    }
  }

  /** The encoded strings of a string tensor. */
  strings(dataId: DataId): Uint8Array[] {
    const { strings } = this.stored(dataId);
    if (strings === null) throw new Error("libtorch: expected a string tensor");
    return strings;
  }

  /** Puts another native tensor under a data id and frees the one that was there. Shape and dtype must be the same. */
  replace(dataId: DataId, tensor: NativeTensor): void {
    const found = this.data.get(dataId);
    if (found.tensor !== null) this.release(found.tensor);
    this.live.add(tensor);
    found.tensor = tensor;
  }

  /** Whether a native tensor's elements are float32. */
  isFloat32(tensor: NativeTensor): boolean {
    return this.addon.describe(tensor).at(-1) === FLOAT32;
  }

  /**
   * A tensor's values in bfloat16: itself if it is that already, else a copy that is made once and lives as long as the
   * tensor's data. A weight is so cast once a step however often it is used.
   */
  half(dataId: DataId): NativeTensor {
    const { tensor, half } = this.stored(dataId);
    if (tensor === null) throw new Error("libtorch: string tensors are not supported");
    if (half !== null) return half;
    if (this.addon.describe(tensor).at(-1) === BFLOAT16) return tensor;
    const copy = this.call(toType, [tensor, "bfloat16", false, true, CONTIGUOUS_FORMAT]) as NativeTensor;
    this.keepHalf(dataId, copy);
    return copy;
  }

  /** Keeps a copy in bfloat16 that a kernel made on its way, for `half`. */
  keepHalf(dataId: DataId, copy: NativeTensor): void {
    this.forgetHalf(dataId);
    this.live.add(copy);
    this.data.get(dataId).half = copy;
  }

  /** To be called when a tensor was changed in place: its copy in bfloat16 is outdated. */
  forgetHalf(dataId: DataId): void {
    const found = this.data.get(dataId);
    if (found.half !== null) this.release(found.half);
    found.half = null;
  }

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  override move(
    dataId: DataId,
    values: BackendValues,
    shape: number[],
    dtype: DataType,
    refCount: number,
  ): void {
    if (dtype === "string") {
      this.data.set(dataId, {
        tensor: null,
        strings: values as Uint8Array[],
        half: null,
        shape,
        dtype,
        refCount,
      });
      return;
    }
    const type = nativeType(dtype);
    const array = toNativeArray(values as ArrayLike<number>, type);
    const tensor = this.addon.fromData(array, shape, type, this.device);
    this.live.add(tensor);
    this.data.set(dataId, { tensor, strings: null, half: null, shape: [...shape], dtype, refCount });
  }

  override readSync(dataId: DataId): BackendValues {
    const { tensor, strings, shape, dtype } = this.stored(dataId);
    if (tensor === null) return strings ?? [];
    const values = arrayFor(nativeType(dtype), util.sizeFromShape([...shape]));
    this.addon.toData(tensor, values);
    return values;
  }

  override async read(dataId: DataId): Promise<BackendValues> {
    return this.readSync(dataId);
  }

  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const found = this.data.get(dataId);
    found.refCount--;
    if (!force && found.refCount > 0) return false;
    if (found.tensor !== null) this.release(found.tensor);
    if (found.half !== null) this.release(found.half);
    this.data.delete(dataId);
    return true;
  }

  override refCount(dataId: DataId): number {
    return this.data.has(dataId) ? this.data.get(dataId).refCount : 0;
  }

  override incRef(dataId: DataId): void {
    this.data.get(dataId).refCount++;
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }

  /**
   * `nativeHandles` and `nativeBytes` count what libtorch holds: flat over repeated work, or something leaks.
   * `devicePeakBytes` is the most that a GPU's allocator gave out so far; null on a CPU.
   */
  override memory(): {
    unreliable: boolean;
    nativeHandles: number;
    nativeBytes: number;
    devicePeakBytes: number | null;
  } {
    const { handles, bytes, devicePeakBytes } = this.addon.info();
    return {
      unreliable: false,
      nativeHandles: handles,
      nativeBytes: bytes,
      devicePeakBytes: devicePeakBytes < 0 ? null : devicePeakBytes,
    };
  }

  /** `kernelMs` is the time within libtorch; what `tf.time` measures beyond it is JavaScript's. */
  override async time(query: () => void): Promise<{ kernelMs: number }> {
    return { kernelMs: this.profiler.record("timing", query).nativeMilliseconds };
  }

  override floatPrecision(): 16 | 32 {
    return 32;
  }

  override epsilon(): number {
    return super.epsilon();
  }

  /** Frees every tensor that is left. */
  override dispose(): void {
    for (const tensor of this.live) this.addon.free(tensor);
    this.live.clear();
  }

  private release(tensor: NativeTensor): void {
    if (this.live.delete(tensor)) this.addon.free(tensor);
  }
}
