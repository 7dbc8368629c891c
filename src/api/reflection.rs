//! Server reflection, as gRPC specifies it: what is not there is an answer like another one, and the call goes on.
//!
//! The same messages are spoken as `grpc.reflection.v1alpha`; that path is rewritten. Only what is served here is
//! described, and what that needs.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use crate::proto;

/// What is served on a coordinator's gRPC listener.
const SERVICES: [&str; 4] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "pairdb.v1.CoordinatorService",
];

/// The service. The descriptors were compiled with this program; what should be unreadable all the same is not
/// described.
pub(super) fn service() -> ServerReflectionServer<impl ServerReflection> {
    let sets = [
        proto::DESCRIPTORS,
        pb::v1::FILE_DESCRIPTOR_SET,
        pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let sets = sets.map(|set| FileDescriptorSet::decode(set).unwrap_or_default());
    let files = sets.into_iter().flat_map(|set| set.file);
    let described = Described::new(files.collect());
    ServerReflectionServer::new(Reflection(Arc::new(described)))
}

/// What is described.
#[derive(Default)]
struct Described {
    /// Encoded, by name.
    files: BTreeMap<String, Vec<u8>>,
    /// The file of each symbol, by its full name.
    symbols: BTreeMap<String, String>,
    /// Those that could have extensions, if there were any.
    messages: BTreeSet<String>,
}

impl Described {
    fn new(files: Vec<FileDescriptorProto>) -> Self {
        let mut described = Self::default();
        let serves = |file: &FileDescriptorProto| {
            let mut services = file.service.iter();
            services.any(|service| SERVICES.contains(&&*within(file.package(), service.name())))
        };
        let wanted = files.iter().filter(|file| serves(file));
        let mut wanted: Vec<&FileDescriptorProto> = wanted.collect();
        while let Some(file) = wanted.pop() {
            if described.files.contains_key(file.name()) {
                continue;
            }
            described.add(file);
            let imported = |other: &&FileDescriptorProto| {
                let mut imports = file.dependency.iter();
                imports.any(|import| import == other.name())
            };
            wanted.extend(files.iter().filter(imported));
        }
        described
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let (name, package) = (file.name(), file.package());
        self.files.insert(name.to_owned(), file.encode_to_vec());
        for message in &file.message_type {
            self.add_message(name, package, message);
        }
        for r#enum in &file.enum_type {
            self.add_enum(name, package, r#enum);
        }
        for service in &file.service {
            let full = within(package, service.name());
            for method in &service.method {
                self.add_symbol(name, within(&full, method.name()));
            }
            self.add_symbol(name, full);
        }
    }

    fn add_message(&mut self, file: &str, scope: &str, message: &DescriptorProto) {
        let full = within(scope, message.name());
        for nested in &message.nested_type {
            self.add_message(file, &full, nested);
        }
        for r#enum in &message.enum_type {
            self.add_enum(file, &full, r#enum);
        }
        let fields = message.field.iter().map(|field| field.name());
        let oneofs = message.oneof_decl.iter().map(|oneof| oneof.name());
        for part in fields.chain(oneofs) {
            self.add_symbol(file, within(&full, part));
        }
        self.messages.insert(full.clone());
        self.add_symbol(file, full);
    }

    /// An enum's values are named beside it, not in it.
    fn add_enum(&mut self, file: &str, scope: &str, r#enum: &EnumDescriptorProto) {
        self.add_symbol(file, within(scope, r#enum.name()));
        for value in &r#enum.value {
            self.add_symbol(file, within(scope, value.name()));
        }
    }

    fn add_symbol(&mut self, file: &str, full: String) {
        self.symbols.insert(full, file.to_owned());
    }

    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            Some(asked) => self.found(asked),
            None => Err((Code::InvalidArgument, "nothing is asked for".to_owned())),
        };
        let answer = answer.unwrap_or_else(|(code, error_message)| {
            MessageResponse::ErrorResponse(ErrorResponse {
                error_code: code.into(),
                error_message,
            })
        });
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer),
        }
    }

    fn found(&self, asked: &MessageRequest) -> Result<MessageResponse, (Code, String)> {
        let absent =
            |what: &str, name: &str| (Code::NotFound, format!("there is no {what} {name}"));
        match asked {
            MessageRequest::FileByFilename(name) => {
                let file = self.files.get(name).ok_or_else(|| absent("file", name))?;
                Ok(MessageResponse::FileDescriptorResponse(
                    FileDescriptorResponse {
                        file_descriptor_proto: vec![file.clone()],
                    },
                ))
            }
            MessageRequest::FileContainingSymbol(name) => {
                let file = self.symbols.get(name);
                let file = file.ok_or_else(|| absent("symbol", name))?;
                self.found(&MessageRequest::FileByFilename(file.clone()))
            }
            MessageRequest::FileContainingExtension(extension) => {
                Err(absent("extension of", &extension.containing_type))
            }
            MessageRequest::AllExtensionNumbersOfType(name) => match self.messages.contains(name) {
                true => Ok(MessageResponse::AllExtensionNumbersResponse(
                    ExtensionNumberResponse {
                        base_type_name: name.clone(),
                        extension_number: Vec::new(),
                    },
                )),
                false => Err(absent("message", name)),
            },
            MessageRequest::ListServices(_) => {
                let service = SERVICES.map(|name| ServiceResponse { name: name.into() });
                Ok(MessageResponse::ListServicesResponse(ListServiceResponse {
                    service: service.into(),
                }))
            }
        }
    }
}

fn within(scope: &str, name: &str) -> String {
    match scope {
        "" => name.to_owned(),
        scope => format!("{scope}.{name}"),
    }
}

struct Reflection(Arc<Described>);

type Answers = Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream = Answers;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let described = Arc::clone(&self.0);
        let answers = request.into_inner();
        let answers = answers.map(move |request| Ok(described.answer(request?)));
        Ok(Response::new(answers.boxed()))
    }
}
