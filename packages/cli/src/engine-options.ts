import { type Command, InvalidArgumentError } from "commander";

/** The engine that the command line asks for; what is missing is left to the definition and the environment. */
export interface EngineOptions {
  readonly backend?: string;
  readonly device?: string;
  readonly threads?: number | "auto";
}

/** Adds `--backend`, `--device` and `--threads`. */
export function addEngineOptions(command: Command): Command {
  return command
    .option("--backend <name>", "auto, libtorch, tensorflow, webgpu or wasm (also ESPALIER_BACKEND)")
    .option("--device <device>", "auto, cpu or cuda:0 (also ESPALIER_DEVICE)")
    .option("--threads <number>", "threads of one operator, or auto", threads);
}

function threads(text: string): number | "auto" {
  return text === "auto" ? "auto" : wholeNumber(text);
}

/** An option's value as a whole number of at least 1. */
export function wholeNumber(text: string): number {
  return wholeNumberFrom(1, text);
}

/** An option's value as a whole number of at least 0. */
export function wholeNumberFromZero(text: string): number {
  return wholeNumberFrom(0, text);
}

function wholeNumberFrom(least: number, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < least)
    throw new InvalidArgumentError(`expected a whole number of at least ${least}`);
  return value;
}

/** An option's value as a number of at least 0. */
export function amount(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0)
    throw new InvalidArgumentError("expected a number of at least 0");
  return value;
}

/** Engine options as overrides: the command line beats the definition. */
export function engineOverrides(options: EngineOptions): string[] {
  return (["backend", "device", "threads"] as const)
    .filter((key) => options[key] !== undefined)
    .map((key) => `${key}=${options[key]}`);
}
