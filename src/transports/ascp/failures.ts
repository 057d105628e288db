/**
 * What a failure of ascp means: the numbers of its management channel, and the texts of those that have none. Facts: the
 * error list of IBM/aspera-cli 4.26 (lib/aspera/ascp/management.rb), which newer versions of ascp lengthen; which of them
 * are worth another try is that client's policy, with what users of it reported.
 */
import { type ErrorCode, RunError } from "../../errors.ts";

/** Code, sentence; a third word says what to do where the code's own hint says too little. */
type Meaning = readonly [code: ErrorCode, sentence: string, hint?: string];

const UDP_HINT =
  "open UDP 33001 outbound, and its answers, in the firewall; `gantry doctor` looks at the way";
const TCP_HINT =
  "open outbound TCP 33001 and 22 in the firewall, or check the port; `gantry doctor` looks at the way";
const LICENCE_HINT = "put a valid aspera-license beside ascp, or install it anew with `gantry ascp install`";

/** Codes that are `later` in the table of errors are tried again; the others are final. */
const MEANINGS: Readonly<Record<number, Meaning>> = {
  1: ["archive-error", "the two ends did not understand each other (FASP protocol)"],
  2: ["archive-error", "ascp failed without saying why"],
  3: ["usage", "the destination can't be told from the sources"],
  4: ["access-item", "there is no such file on the server"],
  5: ["access-denied", "the server does not permit it"],
  6: ["usage", "the destination is no folder"],
  7: ["usage", "a folder is where a file is needed"],
  8: ["usage", "ascp does not know these options", "leave out --ascp-opt, or use a newer ascp"],
  9: ["access-denied", "the licence of ascp is in use elsewhere", LICENCE_HINT],
  10: [
    "access-denied",
    "the rate is above what the licence of ascp permits",
    "ask for less with --bandwidth",
  ],
  11: ["archive-error", "ascp met an internal error"],
  12: ["archive-unreachable", "the control connection (SSH) failed", TCP_HINT],
  13: ["archive-unreachable", "the control connection (SSH) timed out", TCP_HINT],
  14: ["archive-unreachable", "the data connection (UDP) failed", UDP_HINT],
  15: ["archive-unreachable", "the data connection (UDP) timed out", UDP_HINT],
  16: ["archive-cut", "the connection was lost"],
  17: ["archive-cut", "the receiver can't answer the sender (UDP)", UDP_HINT],
  18: ["archive-cut", "the receiver gets no data (UDP)", UDP_HINT],
  19: ["access-login", "the server refuses the login", "check user, password and key (--key)"],
  20: ["access-item", "there is nothing to transfer"],
  21: ["access-item", "it is no regular file"],
  22: ["archive-error", "too many files for one transfer"],
  23: ["archive-busy", "too many open files"],
  24: ["disk-error", "a file is larger than the file system takes"],
  25: ["disk-full", "no space is left at the destination"],
  26: ["disk-permission", "the destination is read-only"],
  27: ["archive-error", "some files failed"],
  28: ["archive-cut", "the transfer was cancelled"],
  29: ["access-denied", "ascp finds no licence", LICENCE_HINT],
  30: ["access-denied", "the licence of ascp has expired", LICENCE_HINT],
  31: ["archive-error", "ascp can't set up its sockets"],
  32: ["archive-busy", "no memory is left"],
  33: ["archive-busy", "no further thread can be started"],
  34: ["access-denied", "the server does not authorise the transfer"],
  35: ["archive-error", "the sender can't read a file"],
  36: ["disk-error", "the receiver can't write a file"],
  37: ["archive-busy", "the server does not authorise the transfer now"],
  38: ["access-denied", "the licence of ascp does not permit this", LICENCE_HINT],
  39: ["archive-cut", "the server ended the session"],
  40: ["archive-stalled", "data stopped coming"],
  41: ["access-denied", "a path lies outside of what the server shows"],
  42: ["usage", "something is there already"],
  43: ["access-item", "there is no such file on the server"],
  44: ["archive-unreachable", "the data connection (UDP) can't be set up", UDP_HINT],
  45: ["archive-unreachable", "the bandwidth can't be measured (UDP)", UDP_HINT],
  46: ["archive-error", "the virtual link of the server fails"],
  47: ["archive-unreachable", "the HTTP connection failed"],
  48: ["proof-format", "a file can't be encrypted or decrypted, or is damaged"],
  49: ["access-login", "the passphrase of the encrypted files is wrong", "check ASPERA_SCP_FILEPASS"],
  50: ["usage", "the aspera.conf of ascp can't be used"],
  51: ["access-denied", "the server is not who it should be: its host key differs"],
  52: ["archive-error", "the server's check before the transfer failed"],
  53: ["archive-error", "the server's check after the transfer failed"],
  54: ["archive-error", "the server's check of a limit failed"],
  55: ["disk-error", "a path is too long for the file system"],
  56: ["disk-error", "a name holds characters that the file system does not take"],
  57: ["archive-error", "the size of a piece does not fit the storage of the server"],
  58: ["archive-error", "the server's check ended the session"],
  59: ["archive-error", "the storage behind the server fails"],
  60: ["archive-error", "a script of the server ended the session"],
  61: ["archive-busy", "the server can't encrypt now"],
  62: ["archive-error", "the server can't encrypt"],
  63: ["archive-error", "a link leads back to itself"],
  64: ["disk-error", "finished files can't get their names"],
  65: ["usage", "the cipher is not permitted here (FIPS)"],
  66: ["usage", "the server wants FIPS"],
};

/** Other numbers than those that `later` codes stand for and yet worth no further try. */
const FINAL = new Set([1, 2, 11, 22, 27, 31, 46, 48, 50, 52, 53, 54, 57, 58, 59, 60, 62, 63]);
/** Worth another try although the code that they stand for is not. */
const AGAIN = new Set([36]);

/** Texts of failures whose number does not tell, first match counts. Facts: reports of users to IBM/aspera-cli and others. */
const TEXTS: readonly (readonly [RegExp, Meaning, "later" | "never"])[] = [
  [
    /target address (?:is )?not available/iu,
    ["archive-unreachable", "the target address is not available"],
    "never",
  ],
  [
    /token[^.]*expired|bearer token|token[^.]*(?:not valid|invalid)/iu,
    ["archive-error", "the token has expired"],
    "later",
  ],
  [
    /token and path mismatch|path mismatch/iu,
    ["archive-error", "the token is for another list of paths"],
    "later",
  ],
  [
    /failed to authenticate|no methods left to try|authentication failed|permission denied/iu,
    [
      "access-login",
      "the server refuses the login",
      "check user, password and key (--key); DSA keys are refused by now",
    ],
    "never",
  ],
  [
    /private key file not found/iu,
    ["usage", "the key file is not there", "name another with --key"],
    "never",
  ],
  [
    /key passphrase:|^\s*password:/imu,
    [
      "access-login",
      "ascp asks for a password or passphrase",
      "set ASPERA_SCP_PASS, or name another key with --key; a .putty file is no OpenSSH key",
    ],
    "never",
  ],
  [
    /failed to open tcp connection|failed to open ssh session|connection refused/iu,
    ["archive-unreachable", "the control connection (SSH) can't be opened", TCP_HINT],
    "later",
  ],
  [
    /check udp port and firewall|unable to connect to server/iu,
    ["archive-unreachable", "no data connection (UDP) comes about", UDP_HINT],
    "later",
  ],
  [
    /session initiation failed|data transfer timeout|timed out/iu,
    ["archive-unreachable", "the server began no session", TCP_HINT],
    "later",
  ],
  [
    /no such file or directory|source path stat failed/iu,
    ["access-item", "there is no such file on the server"],
    "never",
  ],
  [
    /not who we expected/iu,
    ["access-denied", "the server is not who it should be: its host key differs"],
    "never",
  ],
  [
    /stronger encryption than server allows/iu,
    ["usage", "the server takes no encryption of this strength", "use --ascp-opt=-T"],
    "never",
  ],
  [/cannot resolve target host/iu, ["archive-unreachable", "the name of the server is not known"], "later"],
  [/disk write failed/iu, ["disk-error", "the receiver can't write a file"], "never"],
  [/destination: file exists/iu, ["usage", "the destination is a file"], "never"],
  [/licen[sc]e/iu, ["access-denied", "ascp finds no valid licence", LICENCE_HINT], "never"],
];

/**
 * The error of a session, or of one file, by its number (0: none was given) and text. `text` must be redacted; it is
 * quoted. `where`: what the sentence is about, e.g. the host.
 */
export function ascpFailure(number: number, text: string, where: string): RunError {
  const quoted = text.trim() === "" ? "" : `: ${text.trim().replaceAll(/\s+/gu, " ").slice(0, 300)}`;
  const suffix = number === 0 ? quoted : `${quoted} (ascp error ${number})`;
  // A text that tells the reason goes before a number that only names the family.
  const told = TEXTS.find(([pattern]) => pattern.test(text));
  const vague =
    MEANINGS[number] === undefined || number <= 2 || number === 14 || number === 37 || number === 39;
  if (told && vague) {
    const [, [code, sentence, hint], retry] = told;
    return make(code, `${where}: ${sentence}${suffix}`, hint, retry);
  }
  const meaning = MEANINGS[number];
  if (!meaning) return make("archive-error", `${where}: ascp failed${suffix}`, undefined, "never");
  const [code, sentence, hint] = meaning;
  const retry = FINAL.has(number) ? "never" : AGAIN.has(number) ? "later" : undefined;
  return make(code, `${where}: ${sentence}${suffix}`, hint, retry);
}

function make(code: ErrorCode, message: string, hint?: string, retry?: "later" | "never"): RunError {
  return new RunError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    ...(retry === undefined ? {} : { retry }),
  });
}
