import { expect, it } from "vitest";
import { htmlToText } from "./html-text.ts";

it.each([
  ["CT &amp; RTSTRUCT &#8211; <b>Images</b>", "CT & RTSTRUCT – Images"],
  ["a&nbsp;b\n\n c<br/>d", "a b c d"],
  ["age < 5 & > 3", "age < 5 & > 3"],
  ["&amp;lt;b&amp;gt;", "&lt;b&gt;"],
  ["&#xE9;&#0;&#xD800;&unknown;", "é\uFFFD\uFFFD&unknown;"],
  ["<script>alert(1)</script>x<!-- y -->", "x"],
  ["", ""],
])("%j", (html, text) => {
  expect(htmlToText(html)).toBe(text);
});
