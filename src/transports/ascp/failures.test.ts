import { describe, expect, it } from "vitest";
import { ERROR_TABLE } from "../../errors.ts";
import { ascpFailure } from "./failures.ts";

/** As IBM/aspera-cli 4.26 has them (lib/aspera/ascp/management.rb): which numbers are worth another try. */
const RETRYABLE = new Set([12, 13, 14, 15, 16, 17, 18, 23, 32, 33, 35, 36, 37, 39, 40, 44, 45, 47, 61]);
/** A cancel that the user did not ask for is a cut; a damaged or undecided file is looked at again. */
const OURS = new Set([28]);

describe("numbers of ascp", () => {
  it.each(Array.from({ length: 70 }, (_, number) => number))(
    "%i is one sentence with a retry as clients have it",
    (number) => {
      const error = ascpFailure(number, "Some text", "host.example");
      expect(error.message).toMatch(/^host\.example: [^\n]+: Some text/u);
      expect(error.hint).not.toBe("");
      expect(ERROR_TABLE[error.code]).toBeDefined();
      if (!OURS.has(number)) expect(error.retry).toBe(RETRYABLE.has(number) ? "later" : "never");
    },
  );
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
