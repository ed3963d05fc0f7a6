import { EspalierError } from "@espalier/core";
import { writeDurably } from "./durable-files.js";
import { writeLargeFile } from "./large-file.js";
import { type ElementType, elementBytes } from "./number-formats.js";
import { elementCount } from "./safetensors-header.js";

/** A tensor to write. Its data is asked for when its turn comes, so that one tensor at a time is in host memory. */
export interface TensorToWrite {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** The elements in row-major order, at once or in pieces; as many bytes as type and shape need. */
  data(): Promise<ArrayBufferView> | ArrayBufferView | AsyncIterable<ArrayBufferView>;
}

/**
 * Writes a safetensors file, tensor by tensor, durably and atomically. Its metadata says `format: pt`, which Hugging
 * Face's loader asks for.
 *
 * @throws EspalierError ESPALIER_TENSOR_SIZE if data does not fit its shape, ESPALIER_TENSOR_TWICE for a repeated name,
 * ESPALIER_DISK_FULL and its like if the file cannot be written
 */
export async function writeSafetensors(path: string, tensors: readonly TensorToWrite[]): Promise<void> {
  const header = headerBytes(path, tensors);
  await writeDurably(path, async (file, temporary) => {
    await writeLargeFile(file, temporary, pieces(path, header, tensors));
  });
}

function headerBytes(path: string, tensors: readonly TensorToWrite[]): Uint8Array {
  const header: { [name: string]: unknown } = Object.create(null);
  header.__metadata__ = { format: "pt" };
  let position = 0;
  for (const tensor of tensors) {
    if (Object.hasOwn(header, tensor.name))
      throw new EspalierError("ESPALIER_TENSOR_TWICE", `tensor "${tensor.name}" is given twice for ${path}`, {
        file: path,
        key: tensor.name,
      });
    const end = position + byteCount(tensor);
    header[tensor.name] = { dtype: tensor.type, shape: tensor.shape, data_offsets: [position, end] };
    position = end;
  }
  const json = Buffer.from(JSON.stringify(header), "utf8");
  // Padded with spaces so that the data starts at a multiple of 8.
  const length = Math.ceil(json.byteLength / 8) * 8;
  const bytes = Buffer.alloc(8 + length, " ");
  bytes.writeBigUInt64LE(BigInt(length));
  json.copy(bytes, 8);
  return bytes;
}

async function* pieces(
  path: string,
  header: Uint8Array,
  tensors: readonly TensorToWrite[],
): AsyncGenerator<Uint8Array> {
  yield header;
  for (const tensor of tensors) {
    const wanted = byteCount(tensor);
    const wrongSize = (bytes: number): EspalierError =>
      new EspalierError(
        "ESPALIER_TENSOR_SIZE",
        `tensor "${tensor.name}" of shape [${tensor.shape.join(",")}] needs ${wanted} bytes, but has ${bytes}`,
        { file: path, key: tensor.name },
      );
    const given = tensor.data();
    let written = 0;
    for await (const piece of Symbol.asyncIterator in given ? given : [await given]) {
      written += piece.byteLength;
      if (written > wanted) throw wrongSize(written);
      yield new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
    }
    if (written !== wanted) throw wrongSize(written);
  }
}

function byteCount({ type, shape }: TensorToWrite): number {
  return elementCount(shape) * elementBytes[type];
}
