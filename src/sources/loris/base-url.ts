/** Where the interface of a LORIS is: its address with the version, found by asking when it was not given. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Http } from "../../transports/http.ts";

/** Newest first; the `-dev` ones are of LORIS 20 to 22 (LORIS release notes, API versions). */
const VERSIONS = ["v0.0.3", "v0.0.3-dev", "v0.0.2"] as const;
const FIRST_BYTE_MS = 60_000;

export class BaseUrl {
  readonly #http: Http;
  readonly #archive: string;
  readonly #root: string;
  #found: string | null;
  #asking: Promise<string> | null = null;

  /** `url`: of the LORIS itself, with `/api`, or with the version, too. */
  constructor(http: Http, archive: string, url: string) {
    this.#http = http;
    this.#archive = archive;
    const given = url.replace(/\/+$/u, "");
    this.#found = /\/api\/v[^/]+$/u.test(given) ? given : null;
    this.#root = given.endsWith("/api") ? given : `${given}/api`;
  }

  /** Without a slash at the end. Throws `archive-reply` when no LORIS answers. */
  async get(context: Context): Promise<string> {
    if (this.#found !== null) return this.#found;
    this.#asking ??= this.#ask(context).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  /** A version that is served answers to `GET /login` with 405, any other with 400 or 404; no login is needed for it. */
  async #ask(context: Context): Promise<string> {
    let status = 0;
    for (const version of VERSIONS) {
      const url = new URL(`${this.#root}/${version}/login`);
      const response = await this.#http.request(
        { method: "GET", url, firstByteTimeoutMs: FIRST_BYTE_MS },
        context,
      );
      await response.discard();
      status = response.status;
      if (status === 405) {
        this.#found = `${this.#root}/${version}`;
        return this.#found;
      }
    }
    throw new RunError(
      status >= 500 ? "archive-error" : "archive-reply",
      `${this.#archive}: no interface of a LORIS answers at ${this.#root} (HTTP ${status})`,
      {
        at: { archive: this.#archive },
        hint: "give its address with the version, for example https://HOST/api/v0.0.3",
      },
    );
  }
}
