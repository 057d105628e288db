/** The wire of plain files: one request that asks what a link has, one that gets its bytes. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { type Http, type HttpResponse, statusError } from "../../transports/http.ts";
import type { SourceContext } from "../source.ts";
import { isPackedName, isPageName, isPageType } from "./format-check.ts";
import { type Head, isPacked, readHead } from "./head.ts";

/** Where to go on in a file of which the server still has the same version. */
export interface ResumeAt {
  readonly firstByte: number;
  /** For If-Range. */
  readonly condition: string;
}

const FIRST_BYTE_MS = 60_000;

export class WebApi {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /**
   * What the link has; null when the server does not show it (401, 403, 404, 410). Asked by a GET of the first byte:
   * HEAD is refused by links of some stores, and answered wrongly by some servers.
   */
  head(link: string, context: SourceContext): Promise<Head | null> {
    return context.retry.run(new URL(link).host, async () => {
      const response = await this.#request(link, { range: "bytes=0-0" }, context);
      await response.discard();
      if ([401, 403, 404, 410].includes(response.status)) return null;
      // A file of no bytes has no first one (RFC 9110 15.5.17).
      if (response.status !== 416) this.#expectFile(response, link, [200, 206], context);
      const head = readHead(response, link);
      if (response.status === 416 && head.bytes !== 0) throw strange(response);
      return head;
    });
  }

  /** The bytes, with status 206 when the server goes on at `resume`. Not retried here. */
  async content(link: string, resume: ResumeAt | null, context: Context): Promise<HttpResponse> {
    const headers: Record<string, string> =
      resume === null ? {} : { range: `bytes=${resume.firstByte}-`, "if-range": resume.condition };
    const response = await this.#request(link, headers, context);
    try {
      this.#expectFile(response, link, resume === null ? [200] : [200, 206], context);
    } catch (error) {
      await response.discard();
      throw error;
    }
    return response;
  }

  #request(link: string, headers: Readonly<Record<string, string>>, context: Context): Promise<HttpResponse> {
    return this.#http.request(
      {
        method: "GET",
        url: new URL(link),
        // Lengths and ranges are to be those of the file.
        headers: { "accept-encoding": "identity", ...headers },
        firstByteTimeoutMs: FIRST_BYTE_MS,
        data: true,
        raw: true,
      },
      context,
    );
  }

  #expectFile(response: HttpResponse, link: string, statuses: readonly number[], context: Context): void {
    const at = { url: response.url };
    const general = statusError(response, context);
    if (general) throw general.with(at);
    const { host } = new URL(link);
    if (response.status === 401)
      throw new RunError("access-login", `${host} asks for a login (HTTP 401)`, { at });
    if ([403, 404, 410].includes(response.status)) {
      throw new RunError("access-item", `${host} does not give this file (HTTP ${response.status})`, { at });
    }
    if (!statuses.includes(response.status)) throw strange(response);
    const { name, type } = readHead(response, link);
    if (isPageType(type) && !isPageName(name)) {
      throw new RunError("archive-reply", `${host} answered with a web page, not with a file`, {
        at,
        hint: "paste the link of the file itself; what a TCIA collection's page offers: gantry find tcia:COLLECTION --downloads",
      });
    }
    if (isPacked(response) && !isPackedName(name)) {
      throw new RunError("archive-reply", `${host} sends the file packed although it was asked not to`, {
        at,
      });
    }
  }
}

function strange(response: HttpResponse): RunError {
  return new RunError("archive-reply", `an answer that no file server gives (HTTP ${response.status})`, {
    at: { url: response.url },
  });
}
