/** What a diagnosis found at one step; shown by `doctor`, `archives test` and `login`. */
import type { RunError } from "../errors.ts";

export interface Finding {
  /** One word or two, e.g. `login`, `free space`. */
  readonly check: string;
  /** `warning`: worth knowing, and in nobody's way. */
  readonly result: "ok" | "warning" | "failed";
  /** One sentence without its full stop: what was found. */
  readonly detail: string;
  /** What to do; empty when there is nothing. */
  readonly hint: string;
  /** Of `failed`: why, with the exit status that goes with it. */
  readonly error?: RunError;
}

export const fine = (check: string, detail: string): Finding => ({ check, result: "ok", detail, hint: "" });

export const warning = (check: string, detail: string, hint: string): Finding => ({
  check,
  result: "warning",
  detail,
  hint,
});

export const failed = (check: string, error: RunError): Finding => ({
  check,
  result: "failed",
  detail: error.message,
  hint: error.hint,
  error,
});
