//! Reads a tree with serde; whatever is refused carries the node it came from.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor, value::StrDeserializer,
};
use serde::forward_to_deserialize_any;

use super::fault::Fault;
use super::tree::{Content, NodeId, Step, Tree};

#[derive(Clone, Copy)]
pub(super) struct Reader<'t> {
    pub tree: &'t Tree,
    pub node: NodeId,
}

impl<'t> Reader<'t> {
    fn child(self, node: NodeId) -> Self {
        Self { node, ..self }
    }

    fn key(self) -> StrDeserializer<'t, Fault> {
        match &self.tree[self.node].step {
            Step::Key(key) => key.as_str(),
            Step::Index(_) => "",
        }
        .into_deserializer()
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.tree[self.node].content {
            Content::Text(text) => visitor.visit_str(text),
            Content::Integer(integer) => visitor.visit_i64(*integer),
            Content::Float(float) => visitor.visit_f64(*float),
            Content::Boolean(boolean) => visitor.visit_bool(*boolean),
            Content::Table(_) => visitor.visit_map(Children::of(self)),
            Content::Array(_) => {
                let mut children = Children::of(self);
                let value = visitor.visit_seq(&mut children)?;
                match children.left.len() {
                    0 => Ok(value),
                    left => Err(Fault::invalid_length(children.read + left, &"fewer entries")),
                }
            }
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor).map_err(|fault| fault.at(self.node))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self).map_err(|fault| fault.at(self.node))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self).map_err(|fault| fault.at(self.node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A derived struct would take an array for its fields in order.
        if matches!(self.tree[self.node].content, Content::Array(_)) {
            return Err(Fault::invalid_type(serde::de::Unexpected::Seq, &visitor).at(self.node));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.tree[self.node].content {
            Content::Text(text) => {
                let variant: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(variant)
            }
            Content::Table(_) => {
                let mut children = self.tree.live_children(self.node);
                match (children.next(), children.next()) {
                    (Some(only), None) => visitor.visit_enum(Variant(self.child(only))),
                    _ => Err(Fault::custom("not one choice; write exactly one of its keys")),
                }
            }
            _ => self.visit(visitor),
        }
        .map_err(|fault| fault.at(self.node))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Children<'t> {
    reader: Reader<'t>,
    left: std::vec::IntoIter<NodeId>,
    read: usize,
    value: NodeId,
}

impl<'t> Children<'t> {
    fn of(reader: Reader<'t>) -> Self {
        let left: Vec<NodeId> = reader.tree.live_children(reader.node).collect();
        Self { reader, left: left.into_iter(), read: 0, value: reader.node }
    }
}

impl<'de> SeqAccess<'de> for &mut Children<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(next) = self.left.next() else { return Ok(None) };
        self.read += 1;
        seed.deserialize(self.reader.child(next)).map(Some).map_err(|fault| fault.at(next))
    }
}

impl<'de> MapAccess<'de> for Children<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(next) = self.left.next() else { return Ok(None) };
        self.value = next;
        seed.deserialize(self.reader.child(next).key()).map(Some).map_err(|fault| fault.at(next))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(self.reader.child(self.value)).map_err(|fault| fault.at(self.value))
    }
}

/// A table with one key, read as the variant of that name.
struct Variant<'t>(Reader<'t>);

impl<'de, 't> EnumAccess<'de> for Variant<'t> {
    type Error = Fault;
    type Variant = Reader<'t>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Fault> {
        let variant = seed.deserialize(self.0.key()).map_err(|fault| fault.at(self.0.node))?;
        Ok((variant, self.0))
    }
}

impl<'de> VariantAccess<'de> for Reader<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::custom("takes no value; write it as a text in quotes").at(self.node))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self).map_err(|fault| fault.at(self.node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_struct("", fields, visitor)
    }
}
