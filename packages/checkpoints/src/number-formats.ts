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

/** bfloat16 is the upper half of a float32. */
export function bfloat16ToFloat32(bytes: Uint8Array): Float32Array {
  const halves = alignedUint16(bytes);
  const words = new Uint32Array(halves.length);
  for (let index = 0; index < halves.length; index++) words[index] = halves[index]! << 16;
  return new Float32Array(words.buffer);
}

/** IEEE 754 half precision, subnormals, infinities and NaN included. */
export function float16ToFloat32(bytes: Uint8Array): Float32Array {
  const halves = alignedUint16(bytes);
  const values = new Float32Array(halves.length);
  for (let index = 0; index < halves.length; index++) values[index] = halfToNumber(halves[index]!);
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
