"""Tables, constraints and small derived properties: one module per noun of the glossary."""

from models.api_credentials import (
    ApiCredential,
    ApiCredentialGroup,
    ApiScope,
    CredentialState,
    IdempotencyKey,
    KeyState,
)
from models.attachments import Attachment
from models.audit_events import AuditEvent
from models.base import Base, fold, is_storable, prefix_range, table_of, utcnow
from models.bundles import Bundle, CustomerBundle
from models.command_runs import CommandRun, CommandRunState, CommandSource
from models.customers import Customer, CustomerStatus
from models.deliveries import Delivery, DeliveryClaim, DeliveryState, SkipReason
from models.direct_debits import AccountScheme, DirectDebit, DirectDebitNotice
from models.email_templates import (
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    TemplateKind,
)
from models.general_parameters import GeneralParameters, GeneralParametersVersion
from models.groups import Group
from models.mailings import AcceptedWelcome, Lane, Mailing, MailingCustomer, MailingState, MailLine
from models.permission_profiles import PermissionProfile
from models.platform_accounts import LocalPlatformAccount
from models.provisioning import (
    LocalPlatformTenant,
    NumberSequence,
    OffPeakException,
    OffPeakWindow,
    ProvisioningPolicy,
    ProvisioningRun,
    ProvisioningStep,
    RunState,
    StepName,
    StepState,
)
from models.registration_links import InvitationState, RegistrationLink
from models.second_factors import (
    ChallengePurpose,
    Passkey,
    PasskeyChallenge,
    PendingSignIn,
    RecoveryCode,
    SecurityNotice,
    SecurityNoticeKind,
    SignInPolicy,
    TotpFactor,
)
from models.service_templates import (
    Audience,
    OptionKind,
    ServiceOption,
    ServiceTemplate,
    ServiceTemplateBundle,
    ServiceTemplateEmailTemplate,
    ServiceTemplateVersion,
    StartRule,
)
from models.sessions import ResetLink, SelectedUser, SignInSession, Throttle
from models.staff_invitations import StaffInvitation, StaffInvitationState
from models.subscription_requests import (
    NotificationKind,
    RequestCount,
    RequestNotification,
    RequestState,
    RequestTransition,
    SubscriptionRequest,
)
from models.suppressions import Suppression
from models.user_imports import (
    WORKED_ON,
    ImportRowState,
    ImportState,
    UserImport,
    UserImportPiece,
    UserImportRow,
)
from models.users import (
    CUSTOMER_ROLES,
    STAFF_ROLES,
    Role,
    User,
    UserGroup,
    UserStatus,
)
from models.webhooks import (
    MessageState,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
    WebhookSubscription,
)
from models.welcomes import Welcome, WelcomeState

__all__ = [
    "CUSTOMER_ROLES",
    "STAFF_ROLES",
    "WORKED_ON",
    "AcceptedWelcome",
    "AccountScheme",
    "ApiCredential",
    "ApiCredentialGroup",
    "ApiScope",
    "Attachment",
    "Audience",
    "AuditEvent",
    "Base",
    "Bundle",
    "ChallengePurpose",
    "CommandRun",
    "CommandRunState",
    "CommandSource",
    "CredentialState",
    "Customer",
    "CustomerBundle",
    "CustomerEmailTemplate",
    "CustomerStatus",
    "Delivery",
    "DeliveryClaim",
    "DeliveryState",
    "DirectDebit",
    "DirectDebitNotice",
    "EmailTemplate",
    "EmailTemplateText",
    "EmailTemplateVersion",
    "GeneralParameters",
    "GeneralParametersVersion",
    "Group",
    "IdempotencyKey",
    "ImportRowState",
    "ImportState",
    "InvitationState",
    "KeyState",
    "Lane",
    "LocalPlatformAccount",
    "LocalPlatformTenant",
    "MailLine",
    "Mailing",
    "MailingCustomer",
    "MailingState",
    "MessageState",
    "NotificationKind",
    "NumberSequence",
    "OffPeakException",
    "OffPeakWindow",
    "OptionKind",
    "Passkey",
    "PasskeyChallenge",
    "PendingSignIn",
    "PermissionProfile",
    "ProvisioningPolicy",
    "ProvisioningRun",
    "ProvisioningStep",
    "RecoveryCode",
    "RegistrationLink",
    "RequestCount",
    "RequestNotification",
    "RequestState",
    "RequestTransition",
    "ResetLink",
    "Role",
    "RunState",
    "SecurityNotice",
    "SecurityNoticeKind",
    "SelectedUser",
    "ServiceOption",
    "ServiceTemplate",
    "ServiceTemplateBundle",
    "ServiceTemplateEmailTemplate",
    "ServiceTemplateVersion",
    "SignInPolicy",
    "SignInSession",
    "SkipReason",
    "StaffInvitation",
    "StaffInvitationState",
    "StartRule",
    "StepName",
    "StepState",
    "SubscriptionRequest",
    "Suppression",
    "TemplateKind",
    "Throttle",
    "TotpFactor",
    "User",
    "UserGroup",
    "UserImport",
    "UserImportPiece",
    "UserImportRow",
    "UserStatus",
    "WebhookAttempt",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookMessage",
    "WebhookSubscription",
    "Welcome",
    "WelcomeState",
    "fold",
    "is_storable",
    "prefix_range",
    "table_of",
    "utcnow",
]
