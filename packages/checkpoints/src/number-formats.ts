/** What this package reads and writes of safetensors' element types. */
export const elementTypes = ["F32", "F16", "BF16", "F64", "I32", "I64", "U8", "BOOL"] as const;

/** A safetensors element type. */
export type ElementType = (typeof elementTypes)[number];

/** Bytes of one element. */
export const elementBytes: { readonly [Type in ElementType]: number } = {
  F32: 4,
  F16: 2,
  BF16: 2,
  F64: 8,
  I32: 4,
  I64: 8,
  U8: 1,
  BOOL: 1,
};

/** The element types that are floating-point numbers. */
export const floatTypes = ["F32", "F16", "BF16", "F64"] as const;

/** A floating-point element type. */
export type FloatType = (typeof floatTypes)[number];

/** Whether an element type is a floating-point number. */
export function isFloatType(type: ElementType): type is FloatType {
  return floatTypes.some((candidate) => candidate === type);
}

/**
 * Stored numbers as float32: F32 as a view of the same bytes, the others converted. F64 is rounded to the nearest.
 *
 * @param bytes whole elements, starting where a typed array may start
 */
export function floats(bytes: Uint8Array, type: FloatType): Float32Array {
  switch (type) {
    case "F32":
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    case "F16":
      return float16ToFloat32(bytes);
    case "BF16":
      return bfloat16ToFloat32(bytes);
    case "F64":
      return Float32Array.from(new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8));
    default:
      return type satisfies never;
  }
}

/** bfloat16 is the upper half of a float32. */
export function bfloat16ToFloat32(bytes: Uint8Array): Float32Array {
  const halves = alignedUint16(bytes);
  const words = new Uint32Array(halves.length);
  for (let index = 0; index < halves.length; index++) words[index] = halves[index]! << 16;
  return new Float32Array(words.buffer);
}

/** The value of every half-precision number. */
let halfTable: Float32Array | undefined;

/** IEEE 754 half precision, subnormals, infinities and NaN included. */
export function float16ToFloat32(bytes: Uint8Array): Float32Array {
  halfTable ??= Float32Array.from({ length: 0x10000 }, (_, half) => halfToNumber(half));
  const halves = alignedUint16(bytes);
  const values = new Float32Array(halves.length);
  for (let index = 0; index < halves.length; index++) values[index] = halfTable[halves[index]!]!;
  return values;
}

/** Little-endian 64-bit integers as 32-bit ones; null where one does not fit. */
export function int64ToInt32(bytes: Uint8Array): Int32Array | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Int32Array(bytes.byteLength / 8);
  for (let index = 0; index < values.length; index++) {
    const value = view.getBigInt64(index * 8, true);
    if (value < -0x80000000n || value > 0x7fffffffn) return null;
    values[index] = Number(value);
  }
  return values;
}

function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// A view needs an aligned start, which a slice of a read buffer need not have.
function alignedUint16(bytes: Uint8Array): Uint16Array {
  const copy = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(copy.buffer, copy.byteOffset, copy.byteLength / 2);
}
