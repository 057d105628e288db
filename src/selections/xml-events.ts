/** XML as it streams, with the bounds that a file from somebody else needs. */
import { SaxesParser } from "saxes";
import { RunError } from "../errors.ts";
import { displayName } from "../model/safe-path.ts";

export interface XmlHandlers {
  /** Names without their prefix; attributes as they are written. */
  readonly open: (name: string, attributes: Readonly<Record<string, string>>) => void;
  readonly close?: (name: string) => void;
  readonly text?: (text: string) => void;
}

/** The parser's line, for messages. */
export interface XmlPosition {
  readonly line: number;
}

const MAX_DEPTH = 200;
/** saxes keeps a text until the next tag; no value that we look for is longer. */
const MAX_TAG_BYTES = 4 * 1024 * 1024;

const local = (name: string): string => name.slice(name.indexOf(":") + 1);

/**
 * Entities that a document declares itself are refused with the DOCTYPE that declares them, so that nothing expands.
 * Yields after each chunk, for a reader that empties what its handlers gathered. Throws `bad-selection` for what is
 * no XML; errors of the chunks and handlers pass unchanged.
 */
export async function* readXml(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  handlers: (position: XmlPosition) => XmlHandlers,
): AsyncGenerator<void> {
  const parser = new SaxesParser();
  const decoder = new TextDecoder("utf-8");
  const on = handlers(parser);
  let depth = 0;
  let quietBytes = 0;
  const fail = (why: string): never => {
    throw new RunError("bad-selection", `${name}:${parser.line}: ${why}`, {
      hint: "check that the file is whole, and the one you mean",
    });
  };
  parser.on("error", (error) => fail(`not well-formed XML: ${plainReason(error)}`));
  parser.on("doctype", (text) =>
    fail(
      /^\s*html/iu.test(text)
        ? "this is a web page, no selection: perhaps a login page was saved"
        : "a document with a DOCTYPE is not read",
    ),
  );
  parser.on("opentag", (tag) => {
    quietBytes = 0;
    depth += 1;
    if (depth > MAX_DEPTH) fail(`more than ${MAX_DEPTH} elements inside of each other`);
    on.open(local(tag.name), tag.attributes);
  });
  parser.on("closetag", (tag) => {
    quietBytes = 0;
    depth -= 1;
    on.close?.(local(tag.name));
  });
  parser.on("text", (text) => on.text?.(text));
  parser.on("cdata", (text) => on.text?.(text));
  for await (const chunk of chunks) {
    quietBytes += chunk.length;
    parser.write(decoder.decode(chunk, { stream: true }));
    if (quietBytes > MAX_TAG_BYTES) fail("a single value of more than 4 MiB");
    yield;
  }
  parser.write(decoder.decode());
  parser.close();
  yield;
}

/** saxes puts `LINE:COLUMN: ` in front. */
function plainReason(error: Error): string {
  return displayName(error.message.replace(/^[^ ]*\d+:\d+: /u, "").replace(/\.$/u, ""));
}
