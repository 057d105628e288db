/** Replies as Faspex 5 gives them. */
import { randomUUID } from "node:crypto";
import { STATUS_CODES } from "node:http";
import type { Reply, SandboxRequest } from "../../../sandbox/stand-ins.ts";

export function json(status: number, value: unknown, headers: Record<string, string> = {}): Reply {
  return {
    status,
    headers: { "Content-Type": "application/json; charset=utf-8", ...headers },
    body: JSON.stringify(value),
  };
}

/** Faspex 5's error object; the code is text, as on the wire. */
export function refuse(status: number, code: number, message: string): Reply {
  return json(status, { status: STATUS_CODES[status], code: String(code), message, trace: randomUUID() });
}

export const html = (status: number, body: string, headers: Record<string, string> = {}): Reply => ({
  status,
  headers: { "Content-Type": "text/html; charset=utf-8", ...headers },
  body: `<!DOCTYPE html>\n<html><head><title>IBM Aspera Faspex</title></head><body>${body}</body></html>\n`,
});

/** Of a form or of JSON: both are taken. Values that are no text are left out. */
export function fieldsOf({ form, text, headers }: SandboxRequest): URLSearchParams {
  if (!(headers["content-type"] ?? "").startsWith("application/json")) return form;
  const value = parsed(text);
  return new URLSearchParams(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** The object in a body of JSON; empty when it holds none. */
export function parsed(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? "");
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {};
  } catch {
    return {};
  }
}

export const originOf = ({ headers, incoming }: SandboxRequest): string =>
  `${"encrypted" in incoming.socket ? "https" : "http"}://${headers.host ?? "127.0.0.1"}`;
