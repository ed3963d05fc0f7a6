import { EspalierError, suggest } from "@espalier/core";

/**
 * The text in a record's field. A dot in the field's name leads into a nested record, unless a field has that very name.
 *
 * @param place where the record stands, for messages: `data.jsonl, line 3`
 * @throws EspalierError ESPALIER_CORPUS_FIELD if there is no such field or it holds no text
 */
export function textField(record: object, field: string, place: string, file: string): string {
  const value = valueAt(record, field);
  if (typeof value === "string") return value;
  const problem =
    value === undefined
      ? `there is no field "${field}"; ${suggest(field, Object.keys(record))}`
      : `the field "${field}" holds ${value === null ? "null" : Array.isArray(value) ? "a list" : `a ${typeof value}`}, not text`;
  throw new EspalierError("ESPALIER_CORPUS_FIELD", `${place}: ${problem}`, {
    file,
    key: "data.corpus.field",
  });
}

function valueAt(record: object, field: string): unknown {
  const fields = new Map<string, unknown>(Object.entries(record));
  if (fields.has(field)) return fields.get(field);
  const dot = field.indexOf(".");
  if (dot < 0) return undefined;
  const inner = fields.get(field.slice(0, dot));
  return typeof inner === "object" && inner !== null ? valueAt(inner, field.slice(dot + 1)) : undefined;
}
