/** JSON and pages as PHP and Apache send them. */
import type { Reply } from "../../../sandbox/stand-ins.ts";

/** PHP's `json_encode`: beyond ASCII escaped, and the slash too unless told otherwise. */
export function phpJson(value: unknown, { escapeSlashes }: { escapeSlashes: boolean }): string {
  const text = JSON.stringify(value).replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return escapeSlashes ? text.replaceAll("/", "\\/") : text;
}

/** Apache's own page: the request never reached a script. */
export function apacheNotFound(): Reply {
  return {
    status: 404,
    headers: { "Content-Type": "text/html; charset=iso-8859-1" },
    body: '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n<title>404 Not Found</title>\n</head><body>\n<h1>Not Found</h1>\n<p>The requested URL was not found on this server.</p>\n</body></html>\n',
  };
}
