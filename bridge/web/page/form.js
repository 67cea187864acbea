// A form from a JSON schema: fields for what is plain, JSON for what is not. Reading it gives the value, or says what is wrong.

import { el } from "./dom.js";

const DEEPEST = 3;
let numbers = 0;

/** Thrown by `read()` when a field is wrong; the field shows why, and has the focus. */
export class Wrong extends Error {}

/** `{node, read()}` for a schema of an object; one that makes no sense gets a field for JSON. */
export function form(schema) {
  try {
    return formOf(schema);
  } catch {
    const field = jsonField("arguments", {}, false);
    return { node: el("div", { class: "fields" }, field.node), read: () => field.read() ?? {} };
  }
}

function formOf(schema) {
  const root = resolve(schema ?? {}, schema ?? {});
  const node = el("div", { class: "fields" });
  if (Object.keys(root.properties ?? {}).length === 0) {
    if (root.additionalProperties === false || root.properties !== undefined || root.type === undefined) {
      node.append(el("p", { class: "quiet", text: "No arguments." }));
      return { node, read: () => ({}) };
    }
    const field = jsonField("arguments", root, true);
    node.append(field.node);
    return { node, read: () => field.read() ?? {} };
  }
  return object(node, root, schema, 0);
}

function object(node, schema, top, depth) {
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const fields = Object.entries(schema.properties).map(([name, part]) => {
    const field = fieldOf(name, resolve(part, top), required.has(name), top, depth);
    node.append(field.node);
    return [name, field];
  });
  const read = () => {
    const value = Object.create(null); // "__proto__" is a name like any other
    for (const [name, field] of fields) {
      const found = field.read();
      if (found !== undefined) value[name] = found;
    }
    return value;
  };
  return { node, read };
}

/** Follow references inside the schema, and take the one alternative that is not null (as pydantic writes `X | None`). */
function resolve(schema, top, depth = 0) {
  if (schema === null || typeof schema !== "object" || depth > 20) return {};
  if (typeof schema.$ref === "string" && schema.$ref.startsWith("#/")) {
    const steps = schema.$ref.slice(2).split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
    const found = steps.reduce((at, step) => (at && typeof at === "object" && Object.hasOwn(at, step) ? at[step] : null), top);
    return { ...resolve(found, top, depth + 1), ...without(schema, "$ref") };
  }
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(alternatives)) {
    const left = alternatives.filter((each) => each?.type !== "null");
    if (left.length === 1) return { ...resolve(left[0], top, depth + 1), ...without(schema, "anyOf", "oneOf") };
  }
  return schema;
}

function without(schema, ...names) {
  return Object.fromEntries(Object.entries(schema).filter(([name]) => !names.includes(name)));
}

function fieldOf(name, schema, required, top, depth) {
  const types = [schema.type].flat().filter((type) => type !== "null");
  const type = types.length === 1 ? types[0] : undefined;
  const choices = choicesOf(schema);
  if (choices !== null) return choiceField(name, schema, required, choices);
  if (type === "boolean") return booleanField(name, schema, required);
  if (type === "integer" || type === "number") return numberField(name, schema, required, type);
  if (type === "string") return textField(name, schema, required);
  if (type === "array") return arrayField(name, schema, required, resolve(schema.items ?? {}, top));
  if (type === "object" && schema.properties && depth < DEEPEST && required) {
    const legend = el("legend", { text: schema.title ?? name });
    return object(el("fieldset", {}, legend, about(schema)), schema, top, depth + 1);
  }
  return jsonField(name, schema, required);
}

/** `[{value, text}]` where a schema lists its values, null where it does not. */
function choicesOf(schema) {
  if (Array.isArray(schema.enum)) {
    const names = Array.isArray(schema.enumNames) ? schema.enumNames : [];
    return schema.enum.map((value, at) => ({ value, text: String(names[at] ?? (typeof value === "string" ? value : JSON.stringify(value))) }));
  }
  const listed = schema.oneOf ?? schema.anyOf;
  if (!Array.isArray(listed) || !listed.every((each) => each && typeof each === "object" && "const" in each)) return null;
  return listed.map((each) => ({ value: each.const, text: String(each.title ?? each.const) }));
}

function about(schema) {
  return schema.description ? el("span", { class: "about", text: String(schema.description) }) : null;
}

/** A labelled input; `read(text)` makes a value of what it holds, or throws what is wrong with it. */
function labelled(name, schema, required, input, read) {
  const id = `field-${(numbers += 1)}`;
  const wrong = el("span", { class: "wrong", id: `${id}-wrong` });
  const told = about(schema);
  told?.setAttribute("id", `${id}-about`);
  input.id = id;
  input.name = name;
  input.setAttribute("aria-describedby", `${id}-about ${id}-wrong`);
  if (required) input.setAttribute("aria-required", "true");
  const title = schema.title && schema.title !== name ? `${schema.title} (${name})` : name;
  const label = el("label", { for: id, text: title }, required ? el("span", { class: "quiet", text: " required" }) : null);
  const node = el("div", { class: "field" }, label, told, input, wrong);
  return {
    node,
    read() {
      try {
        wrong.textContent = "";
        input.removeAttribute("aria-invalid");
        return read(input);
      } catch (error) {
        wrong.textContent = error.message;
        input.setAttribute("aria-invalid", "true");
        input.focus();
        throw new Wrong(`${name}: ${error.message}`);
      }
    },
  };
}

function given(text, required) {
  if (text === "" && required) throw new Error("needs a value");
  return text === "" ? undefined : text;
}

function textField(name, schema, required) {
  const type = { email: "email", uri: "url", date: "date" }[schema.format] ?? "text";
  const input = el("input", { type, value: schema.default ?? "", autocomplete: "off", spellcheck: "false", placeholder: schema.format === "date-time" ? "2026-01-31T12:00:00Z" : null });
  return labelled(name, schema, required, input, () => {
    if (!input.checkValidity()) throw new Error(input.validationMessage);
    if (schema.minLength && input.value.length < schema.minLength && (required || input.value)) throw new Error(`needs ${schema.minLength} characters`);
    if (schema.maxLength && input.value.length > schema.maxLength) throw new Error(`may have ${schema.maxLength} characters`);
    return required && schema.minLength === undefined && type === "text" ? input.value : given(input.value, required);
  });
}

function numberField(name, schema, required, type) {
  const input = el("input", { type: "number", step: type === "integer" ? "1" : "any", min: schema.minimum, max: schema.maximum, value: schema.default });
  return labelled(name, schema, required, input, () => {
    if (!input.checkValidity()) throw new Error(input.validationMessage);
    const text = given(input.value, required);
    if (text === undefined) return undefined;
    const number = Number(text);
    if (type === "integer" && !Number.isSafeInteger(number)) throw new Error("a browser cannot send this number exactly");
    return number;
  });
}

function booleanField(name, schema, required) {
  if (required || typeof schema.default === "boolean") {
    const input = el("input", { type: "checkbox", checked: schema.default === true });
    return labelled(name, schema, false, input, () => input.checked);
  }
  return choiceField(name, schema, required, [{ value: true, text: "true" }, { value: false, text: "false" }]);
}

function choiceField(name, schema, required, choices) {
  const options = choices.map(({ text }, at) => el("option", { value: at, text }));
  const input = el("select", {}, el("option", { value: "", text: required ? "choose" : "–" }), ...options);
  const preset = choices.findIndex(({ value }) => value === schema.default);
  if (preset >= 0) input.value = String(preset);
  return labelled(name, schema, required, input, () => choices[given(input.value, required) ?? -1]?.value);
}

function arrayField(name, schema, required, items) {
  const choices = choicesOf(items);
  if (choices !== null) return manyField(name, schema, choices);
  if (items.type !== "string") return jsonField(name, schema, required);
  const preset = Array.isArray(schema.default) ? schema.default.join("\n") : "";
  const input = el("textarea", { rows: "2", spellcheck: "false", placeholder: "one per line" });
  input.value = preset;
  return labelled(name, schema, required, input, () => {
    const lines = input.value.split("\n").filter((line) => line !== "");
    return lines.length || required ? lines : undefined;
  });
}

function manyField(name, schema, choices) {
  const preset = Array.isArray(schema.default) ? schema.default : [];
  const boxes = choices.map(({ value }) => el("input", { type: "checkbox", name, checked: preset.includes(value) }));
  const labels = choices.map(({ text }, at) => el("label", {}, boxes[at], text));
  const node = el("fieldset", {}, el("legend", { text: schema.title ?? name }), about(schema), ...labels);
  return { node, read: () => choices.filter((_, at) => boxes[at].checked).map(({ value }) => value) };
}

function jsonField(name, schema, required) {
  const input = el("textarea", { rows: "4", spellcheck: "false", placeholder: "JSON" });
  if (schema.default !== undefined) input.value = JSON.stringify(schema.default, null, 2);
  return labelled(name, schema, required, input, () => {
    const text = given(input.value.trim(), required);
    if (text === undefined) return undefined;
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Error(`no JSON: ${error.message}`);
    }
  });
}
