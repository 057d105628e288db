import { describe, expect, it } from "vitest";
import { ascpFailure } from "./failures.ts";

/** As IBM/aspera-cli 4.26 has them (lib/aspera/ascp/management.rb): which numbers are worth another try. */
const RETRYABLE = new Set([12, 13, 14, 15, 16, 17, 18, 23, 32, 33, 35, 36, 37, 39, 40, 44, 45, 47, 61]);
/** A cancel that the user did not ask for is a cut; a damaged or undecided file is looked at again. */
const OURS = new Set([28]);

/** What each number is to a user: by the meaning that the error list gives it. */
const CODES: Readonly<Record<string, readonly number[]>> = {
  usage: [3, 6, 7, 8, 42, 50, 65, 66],
  "access-item": [4, 20, 21, 43],
  "access-denied": [5, 9, 10, 29, 30, 34, 38, 41, 51],
  "access-login": [19, 49],
  "archive-unreachable": [12, 13, 14, 15, 44, 45, 47],
  "archive-cut": [16, 17, 18, 28, 39],
  "archive-stalled": [40],
  "archive-busy": [23, 32, 33, 37, 61],
  "proof-format": [48],
  "disk-full": [25],
  "disk-permission": [26],
  "disk-error": [24, 36, 55, 56, 64],
  "archive-error": [
    ...[0, 1, 2, 11, 22, 27, 31, 35, 46, 52, 53, 54, 57, 58, 59, 60, 62, 63],
    // Of releases newer than the list.
    ...[67, 68, 69],
  ],
};
const rows = Object.entries(CODES)
  .flatMap(([code, numbers]) => numbers.map((number) => [number, code] as const))
  .sort(([a], [b]) => a - b);

describe("numbers of ascp", () => {
  it("are all in the table, each once", () => {
    expect(rows.map(([number]) => number)).toEqual(Array.from({ length: 70 }, (_, number) => number));
  });

  it.each(rows)("%i is %s: one sentence, with a retry as clients have it", (number, code) => {
    const error = ascpFailure(number, "Some text", "host.example");
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/^host\.example: [^\n]+: Some text(?: \(ascp error \d+\))?$/u);
    expect(error.message.includes(`(ascp error ${number})`)).toBe(number !== 0);
    expect(error.hint).not.toBe("");
    if (!OURS.has(number)) expect(error.retry).toBe(RETRYABLE.has(number) ? "later" : "never");
  });
});

describe("texts of ascp", () => {
  it.each([
    [0, "ascp: failed to authenticate, exiting.", "access-login", "never"],
    [
      0,
      "Session Stop  (Error: Client unable to connect to server (check UDP port and firewall))",
      "archive-unreachable",
      "later",
    ],
    [0, "Server aborted session: No such file or directory", "access-item", "never"],
    [39, "Server aborted session: No such file or directory", "access-item", "never"],
    [37, "Token expired", "archive-error", "later"],
    [14, "Target address not available", "archive-unreachable", "never"],
    [0, "Private key file not found at path /x", "usage", "never"],
    [0, "Key passphrase:", "access-login", "never"],
    [0, "Disk write failed", "disk-error", "never"],
    [99, "something new", "archive-error", "never"],
  ] as const)("%i %s", (number, text, code, retry) => {
    expect(ascpFailure(number, text, "h")).toMatchObject({ code, retry });
  });
});
