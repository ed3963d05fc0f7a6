import { EspalierError } from "@espalier/core";

/** The system's code of a failed file operation, if it is one. */
export function systemCode(error: unknown): string | null {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" ? code : null;
}

/** What a failed write means for a user. An {@link EspalierError} passes through; so does what is no file error. */
export function writeFailure(path: string, cause: unknown): unknown {
  if (cause instanceof EspalierError) return cause;
  switch (systemCode(cause)) {
    case null:
      return cause;
    case "ENOSPC":
    case "EDQUOT":
      return new EspalierError("ESPALIER_DISK_FULL", `cannot write ${path}: no space is left on that disk`, {
        file: path,
        hint: "free some space, or choose a folder on another disk; a run may keep fewer checkpoints (checkpoints.keep), and goes on with --resume",
        cause,
      });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new EspalierError(
        "ESPALIER_NO_PERMISSION",
        `cannot write ${path}: no permission to write there`,
        {
          file: path,
          hint: "choose a folder that you may write to, with --out",
          cause,
        },
      );
    case "ENOENT":
      return new EspalierError(
        "ESPALIER_NO_FOLDER",
        `cannot write ${path === "" ? "to a path without a name" : path}: the folder that it would lie in does not exist`,
        { file: path, hint: "make that folder, or choose another one", cause },
      );
    case "ENOTDIR":
    case "EEXIST":
      return new EspalierError(
        "ESPALIER_NOT_A_FOLDER",
        `cannot write ${path}: a file stands where a folder is needed`,
        { file: path, hint: "choose another folder with --out", cause },
      );
    default:
      return new EspalierError(
        "ESPALIER_WRITE_FAILED",
        `cannot write ${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
        { file: path, cause },
      );
  }
}

/** What a failed read means for a user. */
export function readFailure(path: string, cause: unknown): unknown {
  if (cause instanceof EspalierError) return cause;
  const code = systemCode(cause);
  if (code === null) return cause;
  const reason =
    code === "ENOENT"
      ? "it does not exist"
      : code === "EACCES" || code === "EPERM"
        ? "no permission to read it"
        : cause instanceof Error
          ? cause.message
          : String(cause);
  return new EspalierError("ESPALIER_READ_FAILED", `cannot read ${path}: ${reason}`, { file: path, cause });
}
