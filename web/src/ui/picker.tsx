// A text that is completed from what there is; what is not offered can be written all the same.
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { event_names, field_names, useOffered, values_of } from "../api/catalogue";

interface PickerProps {
  label: string;
  /** Without it the form keeps what is written. */
  value?: string;
  offered: string[];
  placeholder?: string;
  /** In the form that it is part of. */
  name?: string;
  onChange?(value: string): void;
  onOpen?(): void;
}

export function Picker({ label, value, offered, placeholder, name, onChange, onOpen }: PickerProps) {
  const list = useId();
  const input = useRef<HTMLInputElement>(null);
  // Only another value replaces what is being written: what is offered comes later than the first letters.
  useLayoutEffect(() => {
    if (value !== undefined) input.current!.value = value;
  }, [value]);
  return (
    <>
      <input ref={input} aria-label={label} name={name} list={list} placeholder={placeholder} autocomplete="off" spellcheck={false} onFocus={onOpen}
        onChange={(event) => onChange?.(event.currentTarget.value)} onKeyDown={(event) => event.key === "Enter" && !name && event.currentTarget.blur()} />
      <datalist id={list}>{offered.map((name) => <option key={name} value={name} />)}</datalist>
    </>
  );
}

interface NamePickerProps {
  label: string;
  value?: string;
  onChange?(value: string): void;
  placeholder?: string;
  name?: string;
}

export function EventPicker(props: NamePickerProps) {
  const [is_open, set_is_open] = useState(false);
  const offered = useOffered(is_open ? event_names : null, String(is_open));
  return <Picker {...props} placeholder={props.placeholder ?? "any event"} offered={offered} onOpen={() => set_is_open(true)} />;
}

export function FieldPicker({ event = "", ...props }: NamePickerProps & { event?: string }) {
  const [is_open, set_is_open] = useState(false);
  const offered = useOffered(is_open ? () => field_names(event) : null, `${is_open} ${event}`);
  return <Picker {...props} offered={offered} onOpen={() => set_is_open(true)} />;
}

export function ValuePicker({ field, event = "", ...props }: NamePickerProps & { field: string; event?: string }) {
  const [is_open, set_is_open] = useState(false);
  const offered = useOffered(is_open && field ? () => values_of(field, event) : null, `${is_open} ${event} ${field}`);
  return <Picker {...props} offered={offered} onOpen={() => set_is_open(true)} />;
}

interface ChoiceProps {
  label: string;
  value: string;
  of: [string, string][];
  onChange(value: string): void;
  /** Somebody turns to it: before its list is seen. */
  onOpen?(): void;
  /** Its name is said, not shown. */
  is_bare?: boolean;
}

export function Choice({ label, value, of, onChange, onOpen, is_bare }: ChoiceProps) {
  return (
    <label class="choice"><span class={is_bare ? "unseen" : ""}>{label}</span>
      <select value={value} onPointerEnter={onOpen} onFocus={onOpen} onChange={(event) => onChange(event.currentTarget.value)}>
        {of.map(([key, name]) => <option key={key} value={key}>{name}</option>)}
      </select>
    </label>
  );
}
