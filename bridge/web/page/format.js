// Numbers as people read them.

const NONE = "–";

export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 60) return `${Math.floor(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

export function latency(value) {
  if (value === null || value === undefined) return NONE;
  const ms = value * 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 10000 ? `${Math.round(ms)} ms` : `${value.toFixed(1)} s`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const mega = value / 1048576;
  if (mega < 10) return `${mega.toFixed(1)} MB`;
  return mega < 10240 ? `${Math.round(mega)} MB` : `${(mega / 1024).toFixed(1)} GB`;
}

export function percent(value) {
  if (value === null || value === undefined) return NONE;
  return value < 10 ? `${value.toFixed(1)} %` : `${Math.round(value)} %`;
}

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return value === 0 || value >= 10 ? String(Math.round(value)) : value.toFixed(1);
}

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
