/**
 * What a Faspex 5 refuses, in our words. Replies are JSON `{status, code, message, trace}`; the codes are those of the
 * IBM Aspera Faspex 5 API (OpenAPI description, "errors").
 */
import { type ErrorCode, RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { type HttpResponse, statusError } from "../../transports/http.ts";
import { isRecord, textOf } from "./wire.ts";

/** Said of every link that is spent: the server keeps no memory of where it was published. */
export const NEW_LINK =
  "copy a new link from the page where the data are offered (of TCIA: gantry find tcia:COLLECTION --downloads), or ask the sender";

const dead = (what: string): readonly [ErrorCode, string, string] => ["access-denied", what, NEW_LINK];
const WAIT = "run the same command again later";

const CODES: Readonly<Record<string, readonly [code: ErrorCode, what: string, hint: string]>> = {
  "1001": ["archive-busy", "asks us to come back later", WAIT],
  "1038": ["access-denied", "is held and not released yet", "ask the sender, or try again later"],
  "1040": ["access-denied", "is held and not released yet", "ask the sender, or try again later"],
  "1051": dead("was deleted"),
  "1052": [
    "access-denied",
    "is not open to this machine's address",
    "try from another network, or ask the server's owner",
  ],
  "1053": [
    "access-denied",
    "is not open to this machine's address",
    "try from another network, or ask the server's owner",
  ],
  "1054": ["archive-busy", "can't be downloaded at the moment", WAIT],
  "1221": ["archive-error", "lies on a storage node that refuses its own server", WAIT],
  "1222": ["archive-error", "lies on a storage node that can't be reached", WAIT],
  "1224": dead("is not known (any more)"),
  "1238": ["access-denied", "may not be downloaded over HTTP", "it needs ascp: gantry ascp install"],
  "1239": ["archive-busy", "is still being uploaded", WAIT],
  "2001": dead("does not accept what the link holds"),
  "2009": dead("does not accept what the link holds"),
  "3800": dead("does not accept this upload link"),
  "3803": dead("does not accept this upload link"),
  "3804": dead("does not accept this upload link"),
  "3805": dead("does not accept the link's passcode: it was withdrawn, or the link was changed on its way"),
  "3806": dead("does not accept the link's passcode: it was withdrawn, or the link was changed on its way"),
  "3807": dead("has a link that is expired"),
  "3808": dead("has a link that is used up"),
  "3809": dead("gives no access to this link"),
  "3810": [
    "access-denied",
    "is open to registered users only",
    "open the link in a browser and register there",
  ],
  "3812": ["access-denied", "is open after a login only", "open the link in a browser"],
  "3813": dead("is locked"),
};

/** A second factor; 4700 to 4707. */
export const SECOND_FACTOR = "wants a second factor (a code by mail), which this program can't give";

export interface Refused {
  /** What was asked, for people: `package 707 of HOST`. */
  readonly subject: string;
  readonly response: HttpResponse;
  /** The reply's body. */
  readonly text: string;
}

/** The error for a reply that is none of the 2xx. A token that is over is `access-login`. */
export function refusal({ subject, response, text }: Refused, context: Context): RunError {
  const { code, message } = readFailure(text);
  const at = { url: response.url };
  context.log("debug", `${response.url} refuses with HTTP ${response.status}, code ${code}: ${message}`);
  if (/^47\d\d$/u.test(code))
    return new RunError("access-denied", `${subject} ${SECOND_FACTOR}`, {
      at,
      hint: "ask the sender for a link without",
    });
  const known = CODES[code];
  if (known !== undefined && code !== "1001") {
    const said = message === "" ? "" : ` (${message})`;
    return new RunError(known[0], `${subject} ${known[1]}${said}`, { at, hint: known[2] });
  }
  const general = statusError(response, context);
  if (general !== null && message === "") return general;
  const said = message === "" ? `HTTP ${response.status}` : `${message} (HTTP ${response.status})`;
  if (general !== null) {
    const { hint, retryAfterMs } = general;
    return new RunError(general.code, `${subject}: ${said}`, {
      at,
      hint,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  }
  if (response.status === 401)
    return new RunError("access-login", `${subject}: ${said}`, { at, hint: NEW_LINK });
  if (response.status === 403 || response.status === 404 || response.status === 410)
    return new RunError("access-denied", `${subject} is not given: ${said}`, { at, hint: NEW_LINK });
  return new RunError("archive-reply", `${subject}: an answer that no Faspex gives: ${said}`, { at });
}

/** Code and message of a reply; empty where it has none. */
export function readFailure(text: string): { readonly code: string; readonly message: string } {
  try {
    const json: unknown = JSON.parse(text);
    const inner = isRecord(json) && isRecord(json.error) ? json.error : json;
    if (!isRecord(inner)) return { code: "", message: "" };
    return {
      code: textOf(inner.code) ?? "",
      message: shortened(
        textOf(inner.message) ?? textOf(inner.user_message) ?? textOf(inner.description) ?? "",
      ),
    };
  } catch {
    return { code: "", message: "" };
  }
}

/** A server's sentence for ours: one line, cut, without its full stop. */
export function shortened(text: string): string {
  const line = text
    .replaceAll(/[\u0000-\u001f\u007f-\u009f]+/gu, " ")
    .trim()
    .replace(/\.$/u, "");
  return line.length > 200 ? `${line.slice(0, 200)}…` : line;
}
