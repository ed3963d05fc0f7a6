import type * as tf from "@tensorflow/tfjs";
import type { BackendValues, DataId, DataType, TensorInfo } from "@tensorflow/tfjs-core";

/** The npm package of TensorFlow.js's WebGPU engine. */
const PACKAGE: string = "@tensorflow/tfjs-backend-webgpu";

/** A compute shader, as the engine runs it. */
export interface WebGpuProgram {
  readonly outputShape: number[];
  readonly variableNames: string[];
  /** Declarations of the numbers that it is given beside the shapes. */
  readonly uniforms: string;
  readonly workgroupSize: [number, number, number];
  readonly dispatchLayout: { x: number[] };
  readonly dispatch: [number, number, number];
  /** Programs with the same key share one compiled shader. */
  readonly shaderKey: string;
  /** Whether `uniforms.size`, the number of elements of the output, is asked for. */
  readonly size: boolean;
  getUserCode(): string;
}

/** What of the engine is used here. */
export interface WebGpuEngine {
  readonly device: {
    readonly lost: Promise<{ readonly reason: string; readonly message: string }>;
    addEventListener(
      name: "uncapturederror",
      listener: (event: { readonly error: { readonly message: string } }) => void,
    ): void;
  };
  read(dataId: DataId): Promise<BackendValues>;
  makeTensorInfo(shape: number[], dtype: DataType, values: tf.TypedArray): TensorInfo;
  runWebGPUProgram(
    program: WebGpuProgram,
    inputs: TensorInfo[],
    dtype: DataType,
    uniforms: { type: string; data: number[] }[],
  ): TensorInfo;
}

/** How a shader's threads are laid out over an output. */
export interface WebGpuLayout {
  flatDispatchLayout(shape: number[]): { x: number[] };
  computeDispatch(
    layout: { x: number[] },
    shape: number[],
    workgroupSize: [number, number, number],
  ): [number, number, number];
}

/** What of the package is used here. */
export interface WebGpuPackage {
  readonly webgpu_util: WebGpuLayout & {
    readonly MatMulProgramType: { readonly MatMulPackedProgram: number };
  };
}

/**
 * Loads the package, which registers its engine and kernels, but only where it finds `navigator.gpu` in this moment.
 *
 * Its types would bring WebGPU's global names into every file that imports this package; what is used is declared here.
 */
export async function loadPackage(): Promise<WebGpuPackage> {
  return (await import(PACKAGE)) as WebGpuPackage;
}
